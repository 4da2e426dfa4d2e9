//! The plugins of the config that this thread is reading: schemas and configs of components are made by
//! traits of serde and schemars, which hand nothing on.

use std::cell::RefCell;

use super::Plugins;

thread_local! {
    static CURRENT: RefCell<Plugins> = RefCell::default();
}

/// Those of the innermost [`with_plugins`]; outside, none.
pub(crate) fn current_plugins() -> Plugins {
    CURRENT.with_borrow(Plugins::clone)
}

/// Does something while these are the current ones.
pub(crate) fn with_plugins<T>(plugins: &Plugins, work: impl FnOnce() -> T) -> T {
    let _end = End(CURRENT.replace(plugins.clone()));
    work()
}

/// Restores what was current before, whatever happens.
struct End(Plugins);

impl Drop for End {
    fn drop(&mut self) {
        CURRENT.set(std::mem::take(&mut self.0));
    }
}
