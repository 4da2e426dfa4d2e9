//! Calls into components with cancellation, and with panics converted to errors.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::FutureExt;
use isr_api::{ComponentError, Error};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

/// Awaits a future until it completes or `cancel` fires, whichever is first.
///
/// # Errors
/// [`Error::Cancelled`].
pub async fn unless_cancelled<T>(
    cancel: &CancellationToken,
    future: impl Future<Output = T>,
) -> Result<T, Error> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::Cancelled),
        output = future => Ok(output),
    }
}

/// Awaits a component's call until it completes or `cancel` fires. A panic becomes [`ComponentError::Panicked`].
pub(crate) async fn interruptible<T>(
    cancel: &CancellationToken,
    call: impl Future<Output = Result<T, ComponentError>>,
    stage: &str,
    subject: &str,
) -> Result<T, Error> {
    let outcome = unless_cancelled(cancel, AssertUnwindSafe(call).catch_unwind()).await?;
    let outcome = outcome.unwrap_or_else(|payload| Err(panicked(payload)));
    outcome.map_err(|source| component_error(stage, subject, source))
}

/// Runs a synchronous call of a component. A panic becomes [`ComponentError::Panicked`].
pub(crate) fn caught<T>(
    stage: &str,
    subject: &str,
    call: impl FnOnce() -> Result<T, ComponentError>,
) -> Result<T, Error> {
    let outcome = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| Err(panicked(payload)));
    outcome.map_err(|source| component_error(stage, subject, source))
}

/// Converts a component's error to one of the run.
pub(crate) fn component_error(stage: &str, subject: &str, source: ComponentError) -> Error {
    match source {
        ComponentError::Cancelled => Error::Cancelled,
        source => Error::Component { stage: stage.to_owned(), subject: subject.to_owned(), source },
    }
}

/// Converts the failure of a spawned task.
pub(crate) fn join_error(error: JoinError) -> ComponentError {
    match error.try_into_panic() {
        Ok(payload) => panicked(payload),
        Err(_) => ComponentError::Cancelled,
    }
}

fn panicked(payload: Box<dyn Any + Send>) -> ComponentError {
    ComponentError::Panicked(panic_message(payload))
}

/// Returns the message of a panic.
pub(crate) fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "no message".to_owned())
}
