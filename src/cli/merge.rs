//! `isr merge`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use isr_api::Error;
use isr_dpo::merge;
use isr_run::store::PendingDir;

use super::output::print_line;

/// Fold an adapter into its base
///
/// Writes a checkpoint that computes what BASE with ADAPTER on it does, in the types and under the names
/// that BASE has. One tensor is in memory at a time. OUT appears when it is whole.
#[derive(Args)]
pub(super) struct MergeArgs {
    /// The checkpoint folder that the adapter was trained on
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    /// The adapter's folder, in PEFT's format
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The new checkpoint folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Largest file of weights, in GB
    #[arg(long, value_name = "GB", default_value_t = 5.0)]
    shard_gb: f64,
}

impl MergeArgs {
    pub(super) fn execute(&self) -> Result<()> {
        if !(self.shard_gb.is_finite() && self.shard_gb > 0.0) {
            return Err(
                Error::Config(format!("--shard-gb is {}, but must be above 0", self.shard_gb)).into()
            );
        }
        if self.out.exists() {
            return Err(Error::Config(format!("{} exists already", self.out.display())).into());
        }
        let pending = PendingDir::create(&self.out)?;
        let shard_bytes = (self.shard_gb * 1e9) as u64;
        let merged = merge(&self.base, &self.adapter, pending.dir(), shard_bytes);
        match merged {
            Ok(layers) => {
                pending.publish()?;
                print_line(format_args!("{}: {layers} layers changed", self.out.display()))
            }
            Err(error) => {
                isr_run::store::remove_dir(pending.dir())?;
                Err(Error::Config(error.to_string()).into())
            }
        }
    }
}
