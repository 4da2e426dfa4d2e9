//! Calls of untrusted components, with panics caught and a time limit.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use isr_api::ComponentError;

use crate::finding::Findings;

/// Default time limit of a single call.
pub const LONGEST_CALL: Duration = Duration::from_secs(120);

/// Time limit in milliseconds.
static LIMIT_MS: AtomicU64 = AtomicU64::new(LONGEST_CALL.as_millis() as u64);

/// Sets the time limit of a single call, for all suites of this process. Default: [`LONGEST_CALL`].
pub fn set_longest_call(limit: Duration) {
    let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    LIMIT_MS.store(limit.max(1), Ordering::Relaxed);
}

/// Number of calls so far.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// Returns the number of calls that the suites of this process have made, for showing progress.
pub fn calls_made() -> u64 {
    CALLS.load(Ordering::Relaxed)
}

fn longest_call() -> Duration {
    Duration::from_millis(LIMIT_MS.load(Ordering::Relaxed))
}

/// Outcome of a call, with its value or message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome<T> {
    Returned(T),
    /// [`ComponentError::BadInput`].
    Refused(String),
    /// Any other error.
    Failed(String),
    Panicked(String),
    TookTooLong,
}

impl<T> Outcome<T> {
    fn of(result: Result<T, ComponentError>) -> Self {
        match result {
            Ok(value) => Self::Returned(value),
            Err(ComponentError::BadInput(cause)) => Self::Refused(cause.to_string()),
            Err(ComponentError::Panicked(text)) => Self::Panicked(text),
            Err(other) => Self::Failed(other.to_string()),
        }
    }

    /// The value, or `None` for a refusal; anything else breaks the rule `errors`.
    pub(crate) fn value_or_refusal(self, findings: &mut Findings, what: &str) -> Option<T> {
        let wrong = match self {
            Self::Returned(value) => return Some(value),
            Self::Refused(text) => {
                findings.refused(&text);
                return None;
            }
            Self::Failed(text) => {
                format!("failed with \"{text}\"; an input that cannot be processed is BadInput")
            }
            Self::Panicked(text) => format!("panicked with \"{text}\"; an error is returned, never thrown"),
            Self::TookTooLong => {
                findings.hang();
                format!("did not return within {} s", longest_call().as_secs_f64())
            }
        };
        findings.note("errors", format!("{what} {wrong}"));
        None
    }

    /// The value; anything else, a refusal included, breaks the rule `errors`.
    pub(crate) fn value(self, findings: &mut Findings, what: &str) -> Option<T> {
        if let Self::Refused(text) = self {
            findings.note("errors", format!("{what} was refused with \"{text}\""));
            return None;
        }
        self.value_or_refusal(findings, what)
    }
}

/// Runs an asynchronous call.
pub(crate) async fn call<T>(future: impl Future<Output = Result<T, ComponentError>>) -> Outcome<T> {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let caught = AssertUnwindSafe(future).catch_unwind();
    match tokio::time::timeout(longest_call(), caught).await {
        Ok(Ok(result)) => Outcome::of(result),
        Ok(Err(payload)) => Outcome::Panicked(text(payload.as_ref())),
        Err(_) => Outcome::TookTooLong,
    }
}

/// Runs a synchronous call on a thread of its own, which is abandoned where it does not return.
pub(crate) fn call_now<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ComponentError> + Send + 'static,
) -> Outcome<T> {
    CALLS.fetch_add(1, Ordering::Relaxed);
    let (send, done) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let outcome = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => Outcome::of(result),
            Err(payload) => Outcome::Panicked(text(payload.as_ref())),
        };
        // Nobody may wait any more.
        let _ = send.send(outcome);
    });
    done.recv_timeout(longest_call()).unwrap_or(Outcome::TookTooLong)
}

fn text(payload: &(dyn Any + Send)) -> String {
    let owned = payload.downcast_ref::<String>().cloned();
    let text = owned.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "no message".to_owned())
}
