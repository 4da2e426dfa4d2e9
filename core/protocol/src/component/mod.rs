//! Components on a session.

mod judge;
mod objective;
mod retrospector;

pub use judge::RemoteJudge;
pub use objective::RemoteObjective;
pub use retrospector::RemoteRetrospector;

use isr_api::ComponentError;
use isr_config::plugin::PluginError;

use crate::error::{Fault, SessionError};

/// A session's error as that of a plugin's call: the sample is quarantined where the case is at fault.
fn call_error(plugin: &str, call: &'static str, error: &SessionError) -> ComponentError {
    let is_the_case = error.fault.is_the_case();
    let error = PluginError::new(plugin, call, error.to_string());
    if is_the_case { error.bad_input() } else { error.failed() }
}

fn unusable(plugin: &str, call: &'static str, reason: String) -> ComponentError {
    call_error(plugin, call, &Fault::Unusable(reason).into())
}
