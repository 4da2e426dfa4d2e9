//! Replies to the callers of the engine.

use tokio::sync::oneshot;

use crate::error::Result;

/// Channel that takes the outcome of one command.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// Sends an outcome; a caller that has dropped its future is ignored.
pub(super) fn respond<T>(reply: Reply<T>, outcome: Result<T>) {
    let _ = reply.send(outcome);
}
