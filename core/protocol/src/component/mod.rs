//! Components on a session.

mod evaluator;
mod judge;
mod objective;
mod observer;
mod retrospector;
mod rows;

pub use evaluator::RemoteEvaluator;
pub use judge::RemoteJudge;
pub use objective::RemoteObjective;
pub use observer::RemoteObserver;
pub use retrospector::RemoteRetrospector;
pub use rows::{RemoteDemonstrations, RemoteRows};

use isr_api::ComponentError;
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
