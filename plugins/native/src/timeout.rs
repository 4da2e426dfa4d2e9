//! Work that may hang, on a thread that can be given up.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use isr_api::Cause;

/// Does work on a thread of its own and waits for it for at most `limit`. The thread cannot be stopped: after the
/// limit it goes on, and its result is dropped. `what` is a verb for the error.
///
/// # Errors
/// The limit has passed, the work panicked, or no thread can be started.
pub(crate) fn with_timeout<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Cause> {
    let (sender, receiver) = sync_channel(1);
    let thread = thread::Builder::new().name("plugin".to_owned());
    // Nobody listens after the limit.
    let thread = thread.spawn(move || drop(sender.send(work())));
    thread.map_err(|error| format!("no thread can be started: {error}"))?;
    receiver.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => {
            let seconds = limit.as_secs_f64();
            format!("it did not {what} within {seconds} s (`start_s`), and is left to itself").into()
        }
        RecvTimeoutError::Disconnected => format!("it panicked while it was to {what}").into(),
    })
}
