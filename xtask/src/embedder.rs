//! `examples/embedder`: a program outside the workspace that depends on isr-dpo.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{process, repository};

/// What the program prints, in this order.
const SAYS: [&str; 3] = ["iteration 1: trained on", "cancelled;", "complete: 2 iterations"];

/// Builds it, and starts it with no variable but `PATH`.
pub(crate) fn check(root: &Path, locked: bool) -> Result<()> {
    let project = root.join("examples/embedder");
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let mut build = Command::new(repository::cargo());
    // Beside the repository cargo reads no .cargo/config.toml of ours; here LIBTORCH comes from there.
    build.args(["build", "--quiet"]).current_dir(&project).env("CARGO_TARGET_DIR", &target);
    if locked {
        build.arg("--locked");
    }
    process::run(&mut build)?;
    let mut program = Command::new(target.join("debug/embedder"));
    program.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
    let said = process::capture(program.current_dir(&project))?;
    let mut rest = said.as_str();
    for text in SAYS {
        let at = rest.find(text);
        ensure!(at.is_some(), "examples/embedder did not say `{text}`, but:\n{said}");
        rest = &rest[at.unwrap_or_default()..];
    }
    Ok(())
}
