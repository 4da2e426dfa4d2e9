//! `isr plugins host`: the process of an isolated library. Not for people.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;

/// Serve a native library on standard input and output
#[derive(Args)]
pub(super) struct HostArgs {
    /// The library
    file: PathBuf,
    /// Most memory in MiB
    #[arg(long, value_name = "N")]
    memory_mb: Option<u64>,
}

impl HostArgs {
    pub(super) fn execute(&self) -> Result<()> {
        isr_native::serve(&self.file, self.memory_mb).map_err(|cause| anyhow!(cause))
    }
}
