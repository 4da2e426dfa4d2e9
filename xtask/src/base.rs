//! `cargo xtask base`: makes a base model of the miniature.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::setup::{self, SetupArgs};
use crate::{demo, half, process, repository};

/// Which base model is made.
#[derive(Args)]
pub(crate) struct BaseArgs {
    /// Seed of its clips, demonstrations and training; 1 is that of configs/base
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seed: u64,
    /// Train the last stages on clips of which a look shows only a part (configs/base-4-partial.toml, base-5-partial.toml);
    /// the weights are stored in float16
    #[arg(long)]
    partial: bool,
    /// Folder of the model [default: configs/base for seed 1, else runs/bases/N; with --partial configs/studies/bases/N]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Stages of supervised training, each starting from the one before: the configs' names behind `base-`.
const STAGES: [&str; 4] = ["1", "2", "3", "4"];

/// The stages with `--partial`.
const STAGES_OF_PARTIAL: [&str; 5] = ["1", "2", "3", "4-partial", "5-partial"];

/// Trains all stages that are not complete, and copies the last checkpoint. The first three are shared by both
/// kinds of a seed.
pub(crate) fn run(args: &BaseArgs) -> Result<()> {
    let root = repository::root()?;
    setup::run(&SetupArgs::default())?;
    demo::build(&root)?;
    let out = match &args.out {
        Some(out) => std::path::absolute(out)?,
        None => root.join(place(args.seed, args.partial)),
    };
    make(&root, args.seed, args.partial, &out)?;
    if args.partial {
        half::store(&out)?;
    }
    println!("{}", out.display());
    if out.starts_with(root.join("configs")) {
        process::run(Command::new("git").args(["diff", "--stat", "--"]).arg(&out).current_dir(&root))?;
    }
    Ok(())
}

/// Where a base model stands, relative to the checkout.
fn place(seed: u64, partial: bool) -> String {
    match (seed, partial) {
        (1, false) => "configs/base".to_owned(),
        (_, false) => format!("runs/bases/{seed}"),
        (_, true) => format!("configs/studies/bases/{seed}"),
    }
}

/// Makes a base model with the binary that [`demo::build`] built.
fn make(root: &Path, seed: u64, partial: bool, out: &Path) -> Result<()> {
    let mut model = format!("runs/base-{seed}-new");
    let stages: &[&str] = if partial { &STAGES_OF_PARTIAL } else { &STAGES };
    for (name, stage) in stages.iter().zip(1..) {
        let config = format!("configs/base-{name}.toml");
        let run = format!("runs/base-{seed}-{name}");
        // Clips of another kind need a folder of their own.
        let kind = if name.ends_with("-partial") { "-partial" } else { "" };
        let settings = [
            // Those of seed 1 are the configs' own. The last stages of a seed and the first of the next draw from the same
            // streams, of different demonstrations on different clips.
            format!("seed={}", 3 * (seed - 1) + stage),
            format!("demonstrations.mixture.seed={}", 3 * (seed - 1) + stage - 1),
            format!("demonstrations.world.seed={}", seed - 1),
            format!("demonstrations.world.dir=data/base-{seed}{kind}"),
            format!("policy.model={model}"),
        ];
        let mut isr = Command::new(demo::release_binary(root));
        isr.args(["sft", &config, "--out", &run]).current_dir(root);
        settings.iter().for_each(|setting| {
            isr.args(["-s", setting]);
        });
        demo::timed(&format!("isr sft {config} --out {run} -s {}", settings.join(" -s ")), &mut isr)?;
        model = format!("{run}/checkpoint");
    }
    let from = root.join(model);
    if !from.is_dir() {
        bail!("{} is missing: the last stage wrote no checkpoint", from.display());
    }
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let entries = fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    // Last, since its presence says that the model is complete.
    files.sort_by_key(|path| path.ends_with("config.json"));
    for path in files {
        let name = path.file_name().unwrap_or_default();
        fs::copy(&path, out.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_models_of_the_quickstart_and_the_studies_stand_with_their_configs() {
        assert_eq!(place(1, false), "configs/base");
        assert_eq!(place(2, false), "runs/bases/2");
        assert_eq!(place(1, true), "configs/studies/bases/1");
    }
}
