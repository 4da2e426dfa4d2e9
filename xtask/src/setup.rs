//! `cargo xtask setup`: what the build and the tests need beyond crates.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;

use crate::libtorch::{self, Variant};
use crate::{ffmpeg, repository};

/// What to install.
#[derive(Args, Default)]
pub(crate) struct SetupArgs {
    /// libtorch with CUDA (3.7 GB), whether or not a GPU is found
    #[arg(long, conflicts_with = "cpu")]
    cuda: bool,
    /// libtorch without CUDA (0.6 GB), even if a GPU is found
    #[arg(long)]
    cpu: bool,
}

impl SetupArgs {
    fn variant(&self) -> Option<Variant> {
        match (self.cuda, self.cpu) {
            (true, _) => Some(Variant::Cuda),
            (_, true) => Some(Variant::Cpu),
            _ => None,
        }
    }
}

/// Installs libtorch and ffmpeg. Does nothing where both are there.
pub(crate) fn run(args: &SetupArgs) -> Result<()> {
    let root = repository::root()?;
    let _lock = lock(&root)?;
    libtorch::clear_leftovers(&root)?;
    libtorch::ensure_installed(&root, args.variant())?;
    ffmpeg::ensure_installed(&root)
}

/// One setup at a time in a checkout; the lock ends with the process.
fn lock(root: &Path) -> Result<File> {
    let path = root.join(".setup.lock");
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    if file.try_lock().is_err() {
        println!("setup: waiting for another `cargo xtask setup` in this checkout");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}
