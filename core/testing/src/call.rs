//! Calls of untrusted components, with panics caught and a time limit.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures::FutureExt;
use isr_api::ComponentError;

use crate::finding::Findings;

/// Time limit of a single call.
pub const LONGEST_CALL: Duration = Duration::from_secs(120);

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
            Self::Refused(_) => return None,
            Self::Failed(text) => {
                format!("failed with \"{text}\"; an input that cannot be processed is BadInput")
            }
            Self::Panicked(text) => format!("panicked with \"{text}\"; an error is returned, never thrown"),
            Self::TookTooLong => {
                findings.hang();
                format!("did not return within {} s", LONGEST_CALL.as_secs())
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
    let caught = AssertUnwindSafe(future).catch_unwind();
    match tokio::time::timeout(LONGEST_CALL, caught).await {
        Ok(Ok(result)) => Outcome::of(result),
        Ok(Err(payload)) => Outcome::Panicked(text(payload.as_ref())),
        Err(_) => Outcome::TookTooLong,
    }
}

/// Runs a synchronous call, without a time limit.
pub(crate) fn call_now<T>(work: impl FnOnce() -> Result<T, ComponentError>) -> Outcome<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => Outcome::of(result),
        Err(payload) => Outcome::Panicked(text(payload.as_ref())),
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let owned = payload.downcast_ref::<String>().cloned();
    let text = owned.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "no message".to_owned())
}
