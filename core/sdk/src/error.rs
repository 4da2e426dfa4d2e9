//! Errors that cross the boundary: code, message and chain of causes.

use std::error::Error as StdError;
use std::fmt;

use abi_stable::std_types::{RString, RVec};
use isr_api::ComponentError;
use isr_api::messages::MessageError;
use serde::{Deserialize, Serialize};

use crate::interface::RawError;

/// An error of the other side: a code, a message and its causes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteError {
    /// `bad_input`, `failed`, `panicked` or `cancelled`; anything else means `failed`.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// The causes of the message, outermost first.
    #[serde(default)]
    pub chain: Vec<String>,
}

impl RemoteError {
    /// An error of the given code without causes.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), chain: Vec::new() }
    }

    /// The code `failed`.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new("failed", message)
    }

    /// From a component's error, causes included.
    pub fn from_component(error: &ComponentError) -> Self {
        let code = match error {
            ComponentError::BadInput(_) => "bad_input",
            ComponentError::Panicked(_) => "panicked",
            ComponentError::Cancelled => "cancelled",
            _ => "failed",
        };
        let message = match error {
            ComponentError::Panicked(text) => text.clone(),
            other => other.to_string(),
        };
        Self { chain: causes(error, &message), message, code: code.to_owned() }
    }

    /// From any error, with the code `failed`.
    pub fn from_error(error: &(dyn StdError + 'static)) -> Self {
        let message = error.to_string();
        Self { chain: causes(error, &message), message, code: "failed".to_owned() }
    }

    /// As a component's error.
    pub fn into_component(self) -> ComponentError {
        match self.code.as_str() {
            "bad_input" => ComponentError::bad_input(self),
            "panicked" => ComponentError::Panicked(self.to_string()),
            "cancelled" => ComponentError::Cancelled,
            _ => ComponentError::failed(self),
        }
    }
}

/// The causes of an error, each only if it says something new.
fn causes(error: &(dyn StdError + 'static), message: &str) -> Vec<String> {
    let mut said = vec![message.to_owned()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !said.iter().any(|it| it.contains(&text)) {
            said.push(text);
        }
        next = cause.source();
    }
    said.split_off(1)
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.chain.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl StdError for RemoteError {}

impl From<MessageError> for RemoteError {
    fn from(error: MessageError) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<RawError> for RemoteError {
    fn from(raw: RawError) -> Self {
        let chain = raw.chain.into_iter().map(RString::into_string).collect();
        Self { code: raw.code.into_string(), message: raw.message.into_string(), chain }
    }
}

impl From<RemoteError> for RawError {
    fn from(error: RemoteError) -> Self {
        let chain: RVec<RString> = error.chain.into_iter().map(RString::from).collect();
        Self { code: error.code.into(), message: error.message.into(), chain }
    }
}
