//! What every command has: a runtime, progress, logging, and Ctrl-C.

use std::future::Future;
use std::io::Write;
#[cfg(unix)]
use std::sync::{Arc, atomic::AtomicBool};

use anyhow::{Context, Result};
use isr_dpo::CancellationToken;
use tokio::runtime::{Builder, Runtime};
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
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
        // Without colours: control characters in a log line come from elsewhere, and are not printed.
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
        log.with_writer(progress.clone()).init();
        let runtime = Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
        Ok(Self { runtime, progress })
    }

    /// Runs a future to its end.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs a future beside what follows.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(future)
    }

    /// A token that Ctrl-C, SIGTERM and SIGUSR1 cancel. A second Ctrl-C or SIGTERM ends the process.
    pub(crate) fn cancelled_by_signals(&self) -> CancellationToken {
        let _runtime = self.runtime.enter();
        self.stopped_by_signals().either()
    }

    /// Tokens that signals cancel. A second Ctrl-C or SIGTERM ends the process.
    pub(crate) fn stopped_by_signals(&self) -> Stops {
        let (stops, progress) = (Stops::default(), self.progress.clone());
        let told = stops.clone();
        self.runtime.spawn(async move {
            let Some(mut signals) = Signals::new() else { return };
            if signals.any().await == Urgency::Now {
                progress.line("stopping; Ctrl-C again ends at once");
                told.now.cancel();
            } else {
                progress.line("stopping; a training first ends its step, unless the signal comes again");
                told.soon.cancel();
            }
            signals.insisting().await;
            remove_shared_folders();
            signal_hook::low_level::exit(INTERRUPTED.into());
        });
        stops
    }

    /// Ends the process at once, whatever its threads are at: the model's may be in the middle of a step,
    /// and must not meet libtorch's destructors. What is to last was written when it was done.
    pub(super) fn end(self, code: u8) -> ! {
        // Nothing can be told to anyone if this fails.
        let _ = std::io::stdout().flush();
        remove_shared_folders();
        signal_hook::low_level::exit(code.into())
    }
}

/// Requests to stop.
#[derive(Clone, Default)]
pub(crate) struct Stops {
    /// At once: Ctrl-C.
    pub(super) now: CancellationToken,
    /// Where no training step is lost: SIGTERM and SIGUSR1, which Slurm sends before it takes a job's node.
    pub(super) soon: CancellationToken,
}

impl Stops {
    /// Waits for a request.
    pub(super) async fn any(&self) {
        tokio::select! {
            () = self.now.cancelled() => {}
            () = self.soon.cancelled() => {}
        }
    }

    /// A token that either request cancels.
    fn either(self) -> CancellationToken {
        let either = CancellationToken::new();
        let token = either.clone();
        tokio::spawn(async move {
            self.any().await;
            token.cancel();
        });
        either
    }
}

/// How soon a process is to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Now,
    #[cfg_attr(not(unix), expect(dead_code, reason = "other systems have one signal"))]
    Soon,
}

/// Removes what plugins' processes share with this one, whose components are not dropped.
fn remove_shared_folders() {
    #[cfg(feature = "python")]
    isr_python::remove_exchange_folders();
}

/// Signals that ask a process to stop.
#[cfg(unix)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    user: Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Option<Self> {
        let listen = |kind| signal(kind).ok();
        Some(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            user: listen(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the first one.
    async fn any(&mut self) -> Urgency {
        tokio::select! {
            _ = self.interrupt.recv() => Urgency::Now,
            _ = self.terminate.recv() => Urgency::Soon,
            _ = self.user.recv() => Urgency::Soon,
        }
    }

    /// Waits for one that insists. A scheduler may send SIGUSR1 to a job's shell and to its processes.
    async fn insisting(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Option<Self> {
        Some(Self)
    }

    async fn any(&mut self) -> Urgency {
        let _ = tokio::signal::ctrl_c().await;
        Urgency::Now
    }

    async fn insisting(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Lets a write beyond the limit of file sizes fail with an error that is reported, where the signal would end the
/// process without a word.
pub(super) fn survive_file_limits() {
    #[cfg(unix)]
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, Arc::new(AtomicBool::new(false)));
}
