//! `cargo xtask demo`: from a fresh clone to a report, in one command.

use std::env;
use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::setup::{self, SetupArgs};
use crate::{process, repository};

/// What the demo runs, in order: arguments of `isr`, where `{run}` stands for
/// the run directory.
const STEPS: &[&[&str]] = &[&["run", "configs/quickstart.toml", "--out", "{run}"], &["report", "{run}"]];

/// Features that the demo needs: its config and its commands.
const FEATURES: &str = "cli,world";

/// The files whose presence says that a run is complete.
const COMPLETE: [&str; 2] = ["summary.json", "report.html"];

/// Where the demo goes.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// The run directory [default: runs/quickstart in the checkout]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Start anew: an existing run directory is moved aside, never deleted
    #[arg(long)]
    fresh: bool,
}

/// Builds `isr`, runs the quickstart config, and prints where the report is.
pub(crate) fn run(args: &DemoArgs) -> Result<()> {
    let root = repository::root()?;
    let run_dir = match &args.out {
        Some(out) => absolute(out).with_context(|| format!("cannot resolve {}", out.display()))?,
        None => root.join("runs/quickstart"),
    };
    if args.fresh {
        move_aside(&run_dir)?;
    }
    if is_complete(&run_dir) {
        println!("{} is complete; --fresh starts anew", run_dir.display());
    } else {
        if run_dir.exists() {
            println!("{} is not complete: going on with it", run_dir.display());
        }
        make(&root, &run_dir)?;
    }
    println!("{}", run_dir.join("report.html").display());
    Ok(())
}

fn is_complete(run_dir: &Path) -> bool {
    COMPLETE.iter().all(|file| run_dir.join(file).is_file())
}

fn make(root: &Path, run_dir: &Path) -> Result<()> {
    setup::run(&SetupArgs::default())?;
    build_for_demo(root)?;
    for step in STEPS {
        let arguments: Vec<String> = step.iter().map(|word| fill(word, run_dir)).collect();
        let mut isr = Command::new(binary(root, "demo"));
        isr.args(&arguments).current_dir(root);
        timed(&format!("isr {}", arguments.join(" ")), &mut isr)?;
    }
    Ok(())
}

/// Builds `isr` with what the demo needs, in the profile that compiles fast.
fn build_for_demo(root: &Path) -> Result<()> {
    let mut build = Command::new(repository::cargo());
    build.args([
        "build",
        "--profile",
        "demo",
        "--bin",
        "isr",
        "--no-default-features",
        "--features",
        FEATURES,
    ]);
    timed("cargo build --profile demo", build.current_dir(root))
}

/// Builds the release binary.
pub(crate) fn build(root: &Path) -> Result<()> {
    let mut build = Command::new(repository::cargo());
    build.args(["build", "--release", "--bin", "isr"]);
    timed("cargo build --release --bin isr", build.current_dir(root))
}

fn fill(word: &str, run_dir: &Path) -> String {
    word.replace("{run}", &run_dir.to_string_lossy())
}

/// Where [`build`] puts it.
pub(crate) fn release_binary(root: &Path) -> PathBuf {
    binary(root, "release")
}

/// `isr` as a profile builds it.
fn binary(root: &Path, profile: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root.join(target).join(profile).join("isr")
}

/// Runs a command, with a heading and the time that it took.
pub(crate) fn timed(title: &str, command: &mut Command) -> Result<()> {
    println!("\n==> {title}");
    let start = Instant::now();
    process::run(command)?;
    println!("took {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Renames `DIR` to `DIR-<time>`; nothing to do where there is no `DIR`.
fn move_aside(run_dir: &Path) -> Result<()> {
    if !run_dir.exists() {
        return Ok(());
    }
    let time = process::capture(Command::new("date").args(["-u", "+%Y%m%dT%H%M%SZ"]))?;
    let mut aside = run_dir.as_os_str().to_owned();
    aside.push("-");
    aside.push(time.trim());
    let aside = PathBuf::from(aside);
    fs::rename(run_dir, &aside).with_context(|| format!("cannot move {} aside", run_dir.display()))?;
    println!("moved the earlier run to {}", aside.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_name_the_run_directory() {
        let filled: Vec<String> = STEPS[1].iter().map(|w| fill(w, Path::new("/a b"))).collect();
        assert_eq!(filled, ["report", "/a b"]);
    }
}
