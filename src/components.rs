//! Links the components of this repository, and builds what a config names.

use isr_api::{Cause, Error, Kind};
use isr_config::Invalid;

// Components register themselves, but only in crates that the linker keeps.
#[cfg(feature = "data")]
use isr_data as _;
#[cfg(feature = "judges")]
use isr_judges as _;
#[cfg(feature = "native")]
use isr_native as _;
#[cfg(feature = "objectives")]
use isr_objectives as _;
#[cfg(feature = "observers")]
use isr_observers as _;
#[cfg(feature = "python")]
use isr_python as _;
#[cfg(feature = "questions")]
use isr_questions as _;
#[cfg(feature = "samplers")]
use isr_samplers as _;
#[cfg(feature = "torch")]
use isr_torch as _;
#[cfg(feature = "video")]
use isr_video as _;
#[cfg(feature = "wasm")]
use isr_wasm as _;
#[cfg(feature = "world")]
use isr_world as _;

/// The error that names the section and the component.
pub(crate) fn built<T>(kind: Kind, name: &str, outcome: Result<T, Cause>) -> Result<T, Error> {
    outcome.map_err(|cause| Error::Build { kind: kind.section(), name: name.to_owned(), cause })
}

/// `steps is 0` of `training` is about `training.steps`.
pub(crate) fn invalid_part(section: &str, reason: &str) -> Invalid {
    match reason.split_once(' ') {
        Some((key, rest)) if rest.starts_with("is ") || rest.starts_with("must ") => {
            Invalid { key: format!("{section}.{}", key.replace('`', "")), reason: rest.to_owned() }
        }
        _ => Invalid { key: section.to_owned(), reason: reason.to_owned() },
    }
}
