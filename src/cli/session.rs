//! What every command has: a runtime, progress, logging, and Ctrl-C.

use std::future::Future;
use std::process::exit;

use anyhow::{Context, Result};
use isr_dpo::CancellationToken;
use tokio::runtime::{Builder, Handle, Runtime};
use tracing_subscriber::EnvFilter;

use super::Verbosity;
use super::failure::INTERRUPTED;
use crate::progress::Progress;

/// One execution of the program.
pub(crate) struct Session {
    runtime: Runtime,
    /// Progress on stderr.
    pub(crate) progress: Progress,
}

impl Session {
    pub(super) fn start(verbosity: &Verbosity) -> Result<Self> {
        let progress = Progress::new(verbosity.quiet);
        let level = match (verbosity.quiet, verbosity.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "info",
            _ => "debug",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(progress.clone()).init();
        let runtime = Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
        Ok(Self { runtime, progress })
    }

    /// For what calls back from outside of asynchronous code.
    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Runs a future to its end.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// A token that Ctrl-C cancels; a second Ctrl-C ends the process.
    pub(crate) fn cancelled_by_ctrl_c(&self) -> CancellationToken {
        let (token, progress) = (CancellationToken::new(), self.progress.clone());
        let cancelled = token.clone();
        self.runtime.spawn(async move {
            if tokio::signal::ctrl_c().await.is_err() {
                return;
            }
            progress.line("stopping; Ctrl-C again ends at once");
            cancelled.cancel();
            if tokio::signal::ctrl_c().await.is_ok() {
                exit(INTERRUPTED.into());
            }
        });
        token
    }

    /// Leaves without waiting for work that nobody waits for any more.
    pub(super) fn end(self) {
        self.runtime.shutdown_background();
    }
}
