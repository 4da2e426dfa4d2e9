//! Links the plugins, and builds what a config names.

use isr_api::{Cause, Error, Kind};

// Components register themselves, but only in crates that the linker keeps.
use isr_data as _;
use isr_judges as _;
use isr_native as _;
use isr_objectives as _;
use isr_observers as _;
use isr_python as _;
use isr_wasm as _;
use isr_world as _;

/// The error that names the section and the component.
pub(crate) fn built<T>(kind: Kind, name: &str, outcome: Result<T, Cause>) -> Result<T, Error> {
    outcome.map_err(|cause| Error::Build { kind: kind.section(), name: name.to_owned(), cause })
}
