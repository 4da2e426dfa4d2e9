//! Components on a session.

mod encoder;
mod evaluator;
mod judge;
mod objective;
mod observer;
mod policy;
mod retrospector;
mod rows;

pub use encoder::RemoteEncoder;
pub use evaluator::RemoteEvaluator;
pub use judge::RemoteJudge;
pub use objective::RemoteObjective;
pub use observer::RemoteObserver;
pub use policy::RemotePolicy;
pub use retrospector::RemoteRetrospector;
pub use rows::{RemoteDemonstrations, RemoteRows};

use isr_api::{ComponentError, Fingerprint, FingerprintBuilder, Kind};
use isr_config::plugin::PluginError;
use serde::Serialize;
use serde_json::Value;

use crate::error::{SessionError, SessionErrorKind};

/// A session's error as that of a plugin's call: bad input where another case may work.
fn call_error(plugin: &str, call: &'static str, error: &SessionError) -> ComponentError {
    let is_bad_input = error.kind.is_bad_input();
    let error = PluginError::new(plugin, call, error.to_string());
    if is_bad_input { error.bad_input() } else { error.failed() }
}

fn unusable(plugin: &str, call: &'static str, reason: String) -> ComponentError {
    call_error(plugin, call, &SessionErrorKind::Unusable(reason).into())
}

/// A message as the parameters of a call.
fn params(message: &impl Serialize) -> Result<Value, ComponentError> {
    serde_json::to_value(message).map_err(ComponentError::failed)
}

/// Longest fingerprint that a plugin tells, in characters.
const LONGEST_FINGERPRINT: usize = 200;

/// Kind, name and version of a component, as part of its fingerprints.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Identity {
    /// The fingerprint of what a plugin tells of its weights.
    ///
    /// # Errors
    /// An empty or overlong text.
    fn fingerprint(&self, told: &str) -> Result<Fingerprint, String> {
        let length = told.chars().count();
        if length == 0 || length > LONGEST_FINGERPRINT {
            return Err(format!(
                "its fingerprint has {length} characters; it must have 1 to {LONGEST_FINGERPRINT}"
            ));
        }
        let mut builder = FingerprintBuilder::default();
        for part in [self.kind.section(), &self.name, &self.version, told] {
            builder.update(part.as_bytes());
        }
        Ok(builder.finish())
    }
}
