//! Conversion of panics to errors at the boundary, where `abi_stable` would abort the process.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::RemoteError;

thread_local! {
    /// Source location of this thread's last panic.
    static LOCATION: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls `work`; a panic becomes an error with the code `panicked`.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    install_hook();
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => Err(RemoteError::new("panicked", text(payload))),
    }
}

/// Drops a value; a panic becomes an error.
pub(crate) fn drop_guarded<T>(value: T) -> Result<(), RemoteError> {
    guarded(move || {
        drop(value);
        Ok(())
    })
}

/// The message of a panic, with its source location where that is known.
fn text(payload: Box<dyn Any + Send>) -> String {
    let place = LOCATION.take().map(|place| format!(" ({place})")).unwrap_or_default();
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.unwrap_or_else(|| "no message".to_owned());
    // A payload's own drop may panic too, and there is nothing to be done about it.
    std::mem::forget(payload);
    format!("{text}{place}")
}

/// Installs a panic hook that records the location instead of printing it: a library has a hook of its own.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if !cfg!(test) && crate::is_plugin() {
            std::panic::set_hook(Box::new(|info| {
                let place = info.location().map(|it| format!("{}:{}", it.file(), it.line()));
                LOCATION.set(place);
            }));
        }
    });
}
