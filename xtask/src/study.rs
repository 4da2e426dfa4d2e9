//! `cargo xtask study`: the study on the miniature world, from nothing to its tables.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use clap::Args;

use crate::setup::{self, SetupArgs};
use crate::{base, demo, repository};

/// Sweeps of the study, by the names of their files in configs/studies.
const SWEEPS: [&str; 2] = ["whole", "partial"];

/// Seeds of the base models, the `[[bases]]` of both sweeps.
const BASES: [u64; 5] = [1, 2, 3, 4, 5];

/// How the study is run.
#[derive(Args)]
pub(crate) struct StudyArgs {
    /// Runs and base models that are under way at once [default: the number of cores]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Only one of the sweeps
    #[arg(long, value_name = "NAME", value_parser = SWEEPS)]
    only: Option<String>,
}

/// Trains the base models that are missing, and runs the sweeps. Whatever is complete is kept, so the same command goes
/// on where it was stopped.
pub(crate) fn run(args: &StudyArgs) -> Result<()> {
    let root = repository::root()?;
    let start = Instant::now();
    setup::run(&SetupArgs::default())?;
    demo::build(&root)?;
    let jobs = args.jobs.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    bases(&root, jobs)?;
    println!("base models are complete after {:.0} s", start.elapsed().as_secs_f64());
    for sweep in SWEEPS.iter().filter(|name| args.only.as_deref().is_none_or(|only| only == **name)) {
        let config = format!("configs/studies/{sweep}.toml");
        let mut isr = Command::new(demo::release_binary(&root));
        isr.args(["sweep", &config, "--jobs", &jobs.to_string()]).current_dir(&root);
        demo::timed(&format!("isr sweep {config} --jobs {jobs}"), &mut isr)?;
    }
    println!("the study took {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// Makes the base models that are missing, `jobs` at a time.
fn bases(root: &Path, jobs: usize) -> Result<()> {
    let place = |seed: u64| -> (u64, PathBuf) { (seed, root.join(base::place(seed, true))) };
    let missing: Vec<_> =
        BASES.map(place).into_iter().filter(|(_, out)| !out.join("config.json").is_file()).collect();
    for group in missing.chunks(jobs.max(1)) {
        let made: Vec<Result<()>> = thread::scope(|scope| {
            let each = group.iter().map(|(seed, out)| scope.spawn(|| base::make(root, *seed, true, out)));
            let running: Vec<_> = each.collect();
            let panicked = |_| Err(anyhow!("making a base model panicked"));
            running.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
        });
        made.into_iter().collect::<Result<()>>()?;
    }
    Ok(())
}
