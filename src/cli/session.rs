//! What every command has: a runtime, progress, logging, and Ctrl-C.

use std::future::Future;
use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use isr_dpo::CancellationToken;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use super::Verbosity;
use super::failure::INTERRUPTED;
use crate::progress::Progress;

/// Keeps what owns a model until the process ends: to drop it is to wait for the operation that the
/// model is at, and Ctrl-C must not wait.
pub(super) fn for_the_process<T>(owner: T) -> &'static T {
    Box::leak(Box::new(owner))
}

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
        let colours = std::io::stderr().is_terminal();
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
        log.with_writer(progress.clone()).init();
        let runtime = Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
        Ok(Self { runtime, progress })
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
                signal_hook::low_level::exit(INTERRUPTED.into());
            }
        });
        token
    }

    #[cfg(any(feature = "annotate", feature = "serve", feature = "sweep"))]
    /// A token that Ctrl-C and SIGTERM cancel, for what runs until it is told to stop.
    pub(crate) fn cancelled_by_signals(&self) -> CancellationToken {
        let token = self.cancelled_by_ctrl_c();
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let cancelled = token.clone();
            self.runtime.spawn(async move {
                if let Ok(mut asked) = signal(SignalKind::terminate()) {
                    asked.recv().await;
                    cancelled.cancel();
                }
            });
        }
        token
    }

    /// Ends the process at once, whatever its threads are at: the model's may be in the middle of a step,
    /// and must not meet libtorch's destructors. What is to last was written when it was done.
    pub(super) fn end(self, code: u8) -> ! {
        // Nothing can be told to anyone if this fails.
        let _ = std::io::stdout().flush();
        signal_hook::low_level::exit(code.into())
    }
}
