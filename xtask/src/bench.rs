//! `cargo xtask bench`: one iteration, ours and that of transformers and TRL, in turn on this machine.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::setup::{self, SetupArgs};
use crate::{demo, process, repository, venv};

/// What is compared, and how often.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// Shapes: tiny (to try the command), small (2 cores, minutes a round), 1b, 7b (a GPU)
    #[arg(long, default_value = "small")]
    size: String,
    /// Type of weights and activations: float32 or bfloat16
    #[arg(long, default_value = "float32")]
    precision: String,
    /// Device of both sides, as torch names it
    #[arg(long, default_value = "cpu")]
    device: String,
    /// How often each side runs; medians are reported
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Which peers: batched, expert, both with a comma, or none with an empty string
    #[arg(long, default_value = "batched,expert")]
    peers: String,
    /// Samples, other than the size's four
    #[arg(long)]
    samples: Option<u32>,
    /// Answers that are decoded at once, by ours (else 8) and by `batched` (else 4)
    #[arg(long)]
    batch: Option<u32>,
    /// Frames of a video, other than the size's own
    #[arg(long)]
    frames: Option<u32>,
}

/// Makes checkpoint and videos, runs both sides, prints the table.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    setup::run(&SetupArgs::default())?;
    let root = repository::root()?;
    demo::build(&root)?;
    let python = venv::ensure(&root)?;
    venv::add(&root, &python, "benches/peer/requirements.txt")?;
    let folder = format!("runs/bench-{}-{}", args.size, args.precision);
    let local = root.join(".ffmpeg/ffmpeg");
    let ffmpeg = if local.exists() { local } else { "ffmpeg".into() };
    let mut make = Command::new(&python);
    make.args(["benches/peer/make.py", &folder, "--size", &args.size, "--precision", &args.precision]);
    make.args(["--device", &args.device, "--ffmpeg"]).arg(ffmpeg);
    let counts = [("--samples", args.samples), ("--frames", args.frames), ("--batch", args.batch)];
    for (option, value) in counts {
        if let Some(value) = value {
            make.args([option, &value.to_string()]);
        }
    }
    process::run(make.current_dir(&root))?;
    let mut compare = Command::new(&python);
    compare.args(["benches/peer/compare.py", &folder, "--rounds", &args.rounds.to_string()]);
    compare.arg(format!("--peers={}", args.peers)).arg("--isr").arg(demo::release_binary(&root));
    process::run(compare.current_dir(&root))
}
