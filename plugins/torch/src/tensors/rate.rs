//! Rate at which weights are hashed and written, on one core and on two.
//!
//! ```sh
//! ISR_RATE_GB=4 cargo test -p isr-torch --lib hashing_and_writing_on_two_cores -- --ignored --nocapture
//! ```
//!
//! Needs Linux (`taskset`, `/dev/shm`). `ISR_RATE_GB` (default 1) and `ISR_RATE_ROUNDS` (default 5) set the size and the
//! number of rounds, `ISR_RATE_DIR` the folder that is written to.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use super::{Planned, write_sharded};
use crate::manifest::Manifest;

const ROUNDS: &str = "ISR_RATE_ROUNDS";
const GB: &str = "ISR_RATE_GB";
const DIR: &str = "ISR_RATE_DIR";
/// Name of the test that measures once, with the cores that its process has.
const ONCE: &str = "tensors::rate::hashing_and_writing_once";

fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Weights in the proportions of a 7B model's layer, in bfloat16, of about `gb` GB.
fn weights(gb: f64) -> Vec<(Planned, Tensor)> {
    let shapes = [[4096, 4096], [11008, 4096], [1, 4096], [4096, 11008]];
    let (mut all, mut bytes) = (Vec::new(), 0.0);
    for (index, shape) in shapes.iter().cycle().enumerate() {
        if bytes >= gb * 1e9 {
            break;
        }
        let tensor = Tensor::empty(shape, (Kind::BFloat16, Device::Cpu)).uniform_(-1.0, 1.0);
        bytes += 2.0 * tensor.numel() as f64;
        let planned = Planned { name: format!("t{index:04}"), kind: Kind::BFloat16, shape: shape.to_vec() };
        all.push((planned, tensor));
    }
    all
}

/// Prints the seconds that one process takes to write weights with manifest and fingerprint.
#[test]
#[ignore = "a measurement"]
fn hashing_and_writing_once() {
    let dir = std::env::var(DIR).unwrap_or_else(|_| "/dev/shm".to_owned());
    let folder = tempfile::tempdir_in(Path::new(&dir)).unwrap();
    let weights = weights(setting(GB, 1.0));
    let planned: Vec<Planned> = weights.iter().map(|(planned, _)| planned.clone()).collect();
    let mut manifest = Manifest::new();
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let digests = write_sharded(folder.path(), &planned, 5_000_000_000, &mut manifest, true, &mut |name| {
        let index: usize = name[1..].parse().unwrap();
        Ok(weights[index].1.shallow_clone())
    });
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    assert_eq!(digests.unwrap().len(), planned.len());
    println!("seconds {seconds} {cpu}");
}

/// Processor seconds of this process, user and system, in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Prints medians and the fastest of several rounds, in each of which one core and two cores take their turn. Beside each time stand the
/// processor seconds: where they are fewer than the seconds on one core, others are at work on it, and the comparison is
/// void.
#[test]
#[ignore = "a measurement"]
fn hashing_and_writing_on_two_cores() {
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 0..setting(ROUNDS, 5.0) as usize {
        let one = (round % 2).to_string();
        for (cores, seconds) in [one.as_str(), "0,1"].iter().zip(&mut seconds) {
            let this = std::env::current_exe().unwrap();
            let mut run = Command::new("taskset");
            let run = run.args(["-c", cores]).arg(this).args(["--ignored", "--exact", ONCE, "--nocapture"]);
            let said = String::from_utf8(run.output().unwrap().stdout).unwrap();
            let line = said.lines().find_map(|line| line.split_once("seconds ")).expect("a measurement");
            let (wall, cpu) = line.1.split_once(' ').unwrap();
            println!("round {round}: cores {cores}: {wall:.5} s, {cpu:.5} s of processors");
            seconds.push(wall.parse::<f64>().unwrap());
        }
    }
    for all in &mut seconds {
        all.sort_by(f64::total_cmp);
    }
    let gb = setting(GB, 1.0);
    let (middle, [first, second]) = (seconds[0].len() / 2, &seconds);
    for (what, [one, two]) in
        [("medians", [first[middle], second[middle]]), ("fastest", [first[0], second[0]])]
    {
        println!(
            "{what}: {gb} GB on one core in {one:.2} s ({:.2} GB/s), on two in {two:.2} s ({:.2} GB/s): {:.2} times as fast",
            gb / one,
            gb / two,
            one / two
        );
    }
}
