//! The plugins of the config that the current thread loads.
//!
//! Schemas and configs of components come from `JsonSchema` and `Deserialize`, whose methods take no context, so a
//! thread-local variable carries it.

use std::cell::RefCell;

use super::Plugins;

thread_local! {
    static CURRENT: RefCell<Plugins> = RefCell::default();
}

/// The plugins of the innermost [`with_plugins`]; none outside.
pub(crate) fn current_plugins() -> Plugins {
    CURRENT.with_borrow(Plugins::clone)
}

/// Runs `work` with these plugins as the current ones.
pub(crate) fn with_plugins<T>(plugins: &Plugins, work: impl FnOnce() -> T) -> T {
    let _end = End(CURRENT.replace(plugins.clone()));
    work()
}

/// Restores the previous plugins on drop, also during a panic.
struct End(Plugins);

impl Drop for End {
    fn drop(&mut self) {
        CURRENT.set(std::mem::take(&mut self.0));
    }
}
