//! Writes reports of synthetic runs, to look at the design: `sample_report OUT_DIR`.

#[allow(dead_code, clippy::unwrap_used, reason = "shared with the tests")]
#[path = "../tests/fixture/mod.rs"]
mod fixture;

use std::error::Error;
use std::path::{Path, PathBuf};

use fixture::Fixture;
use isr_analysis::report::write_report;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::args().nth(1).ok_or("usage: sample_report OUT_DIR")?);
    let long = Fixture { iterations: 9, steps: 240, ..Fixture::default() }.write(&out);
    let plain =
        Fixture { name: "self-judge without context", iterations: 7, gain: 0.5, ..Fixture::default() };
    let exact = Fixture { name: "exact facts", iterations: 9, gain: 1.7, steps: 90, ..Fixture::default() };
    let arms = [long.clone(), plain.write(&out), exact.write(&out)];
    let fresh = Fixture { name: "fresh", iterations: 0, ..Fixture::default() };
    let started = fresh.write(&out);
    fresh.write_iteration(&started, 1);
    write_report(&[long], &out.join("single.html"), &fixture::frames, &fixture::facts)?;
    write_report(&arms, &out.join("compare.html"), &fixture::frames, &fixture::facts)?;
    write_report(&[started], &out.join("fresh.html"), &|_: &Path, _: &str| None, &fixture::facts)?;
    Ok(())
}
