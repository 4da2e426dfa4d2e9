//! `isr cache`: visual features on disk.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Result;
use clap::{Args, Subcommand};
use isr_run::feature_cache::{CacheStats, clear, default_dir, stats};

use super::failure::Unusable;
use super::output::print_line;

/// Look at and clear visual features that are kept on disk
///
/// A run keeps them where its config says `loop.feature_cache_dir`; `auto` there is the folder that is
/// taken here too where none is given.
#[derive(Args)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Subcommand)]
enum CacheCommand {
    /// Print how many entries there are, their size, and when they were used
    Stats {
        #[command(flatten)]
        folder: FolderArgs,
        /// Print a JSON object with `dir`, `entries` and `bytes`
        #[arg(long)]
        json: bool,
    },
    /// Remove all entries; runs that are under way encode their videos anew
    Clear {
        #[command(flatten)]
        folder: FolderArgs,
        /// Do not ask before the user's cache is cleared, where no folder is given
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Args)]
struct FolderArgs {
    /// The cache's folder [default: isr-dpo/features in the user's cache folder]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl FolderArgs {
    fn path(&self) -> Result<PathBuf> {
        let message = "there is no home folder, and so no cache of the user's".to_owned();
        let hint = Some("give the cache's folder".to_owned());
        Ok(self.dir.clone().or_else(default_dir).ok_or(Unusable { message, hint })?)
    }
}

impl CacheArgs {
    pub(super) fn execute(&self) -> Result<()> {
        match &self.command {
            CacheCommand::Stats { folder, json } => {
                let dir = folder.path()?;
                let stats = stats(&dir)?;
                if *json {
                    let CacheStats { entries, bytes, .. } = stats;
                    return print_line(
                        serde_json::json!({ "dir": dir, "entries": entries, "bytes": bytes }),
                    );
                }
                print_line(described(&dir, &stats))
            }
            CacheCommand::Clear { folder, yes } => {
                let dir = folder.path()?;
                if folder.dir.is_none() && !yes && !agreed(&dir)? {
                    return print_line("nothing was removed");
                }
                let CacheStats { entries, bytes, .. } = clear(&dir)?;
                print_line(format_args!(
                    "{}: removed {entries} entries, {:.1} MiB",
                    dir.display(),
                    mebibytes(bytes)
                ))
            }
        }
    }
}

/// Whether the user agrees that this cache, which was not named, is cleared.
fn agreed(dir: &Path) -> Result<bool> {
    let what = described(dir, &stats(dir)?);
    if !std::io::stdin().is_terminal() {
        let message = format!("no folder is given, and this would clear {what}");
        let hint = Some("name the folder, or add --yes".to_owned());
        return Err(Unusable { message, hint }.into());
    }
    let mut out = std::io::stderr();
    write!(out, "clear {what}? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn described(dir: &Path, stats: &CacheStats) -> String {
    let CacheStats { entries, bytes, oldest, newest } = stats;
    let noun = if *entries == 1 { "entry" } else { "entries" };
    let mut text = format!("{}: {entries} {noun}, {:.1} MiB", dir.display(), mebibytes(*bytes));
    if let (Some(oldest), Some(newest)) = (oldest, newest) {
        text.push_str(&format!("; last used {} to {} ago", age(*oldest), age(*newest)));
    }
    text
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The time since then, in the largest unit of which there are two.
fn age(time: SystemTime) -> String {
    let seconds = SystemTime::now().duration_since(time).unwrap_or_default().as_secs();
    let units = [("days", 86400), ("hours", 3600), ("minutes", 60)];
    match units.into_iter().find(|(_, length)| seconds >= 2 * length) {
        Some((unit, length)) => format!("{} {unit}", seconds / length),
        None => format!("{seconds} seconds"),
    }
}
