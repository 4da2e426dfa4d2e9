//! `cargo xtask study`: the study on the miniature world, from its base models to its results.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::setup::{self, SetupArgs};
use crate::{demo, repository};

/// Sweeps of the study, by the names of their files in configs/studies.
const SWEEPS: [&str; 2] = ["whole", "partial"];

/// How the study is run.
#[derive(Args)]
pub(crate) struct StudyArgs {
    /// Runs that are under way at once [default: the number of cores]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Only one of the sweeps
    #[arg(long, value_name = "NAME", value_parser = SWEEPS)]
    only: Option<String>,
}

/// Runs the sweeps. What is complete is kept, so the same command goes on where it was stopped.
pub(crate) fn run(args: &StudyArgs) -> Result<()> {
    let root = repository::root()?;
    let start = Instant::now();
    setup::run(&SetupArgs::default())?;
    demo::build(&root)?;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = args.jobs.unwrap_or_else(cores).to_string();
    for sweep in SWEEPS.iter().filter(|name| args.only.as_deref().is_none_or(|only| only == **name)) {
        let config = format!("configs/studies/{sweep}.toml");
        let mut isr = Command::new(demo::release_binary(&root));
        isr.args(["sweep", &config, "--jobs", &jobs]).current_dir(&root);
        demo::timed(&format!("isr sweep {config} --jobs {jobs}"), &mut isr)?;
    }
    println!("the study took {:.0} s", start.elapsed().as_secs_f64());
    Ok(())
}
