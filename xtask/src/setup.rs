//! `cargo xtask setup`: what the build and the tests need beyond crates.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

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
    /// Into the user's cache folder, for programs that embed isr-dpo; prints what they need to know
    #[arg(long)]
    user: bool,
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
    let root = if args.user { user_folder()? } else { repository::root()? };
    let _lock = lock(&root)?;
    libtorch::clear_leftovers(&root)?;
    libtorch::ensure_installed(&root, args.variant())?;
    ffmpeg::ensure_installed(&root)?;
    if args.user {
        println!(
            "\nA program that depends on isr-dpo finds libtorch by its own .cargo/config.toml:\n\n    \
             [env]\n    LIBTORCH = {:?}\n\nand ffmpeg without a setting.",
            root.join(".libtorch/torch")
        );
    }
    Ok(())
}

/// `isr-dpo` in the user's cache folder, created.
fn user_folder() -> Result<PathBuf> {
    let named = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = named.or_else(|| Some(env::home_dir()?.join(".cache")));
    let folder = cache.context("there is no home folder; set XDG_CACHE_HOME")?.join("isr-dpo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
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
