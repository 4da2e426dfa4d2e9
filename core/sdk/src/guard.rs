//! Panics become errors before they reach the boundary: `abi_stable` would end the process.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::error::RemoteError;

thread_local! {
    /// Where this thread last panicked.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Calls what may panic.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    keep_places();
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(payload) => Err(RemoteError::new("panicked", text(payload))),
    }
}

/// Drops what may panic; says so if it does.
pub(crate) fn drop_guarded<T>(value: T) -> Result<(), RemoteError> {
    guarded(move || {
        drop(value);
        Ok(())
    })
}

/// The message of a panic, with its place where that is known.
fn text(payload: Box<dyn Any + Send>) -> String {
    let place = PLACE.take().map(|place| format!(" ({place})")).unwrap_or_default();
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.unwrap_or_else(|| "no message".to_owned());
    // A payload's own drop may panic too, and there is nothing to be done about it.
    std::mem::forget(payload);
    format!("{text}{place}")
}

/// Notes where panics happen instead of printing them: a library has a panic hook of its own.
fn keep_places() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if !cfg!(test) && crate::is_plugin() {
            std::panic::set_hook(Box::new(|info| {
                let place = info.location().map(|it| format!("{}:{}", it.file(), it.line()));
                PLACE.set(place);
            }));
        }
    });
}
