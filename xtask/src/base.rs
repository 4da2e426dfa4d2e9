//! `cargo xtask base`: makes the miniature's base model, `configs/base`, anew.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::setup::{self, SetupArgs};
use crate::{demo, process, repository};

/// Stages of supervised training, each starting from the one before.
const STAGES: [&str; 3] = ["base-1", "base-2", "base-3"];

/// No options: everything is in the configs.
#[derive(Args)]
pub(crate) struct BaseArgs {}

/// Runs all stages and copies the last checkpoint to `configs/base`.
pub(crate) fn run(_: &BaseArgs) -> Result<()> {
    let root = repository::root()?;
    setup::run(&SetupArgs::default())?;
    demo::build(&root)?;
    let mut last = root.join("runs");
    for stage in STAGES {
        let out = format!("runs/{stage}");
        let mut isr = Command::new(demo::release_binary(&root));
        isr.args(["sft", &format!("configs/{stage}.toml"), "--out", &out]).current_dir(&root);
        demo::timed(&format!("isr sft configs/{stage}.toml --out {out}"), &mut isr)?;
        last = root.join(out);
    }
    let (from, to) = (last.join("checkpoint"), root.join("configs/base"));
    fs::create_dir_all(&to).with_context(|| format!("cannot create {}", to.display()))?;
    for entry in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        fs::copy(&path, to.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
    }
    println!("{}", to.display());
    process::run(Command::new("git").args(["diff", "--stat", "--", "configs/base"]).current_dir(&root))
}
