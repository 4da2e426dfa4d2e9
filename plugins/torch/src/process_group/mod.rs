//! Processes that train one model together.

mod collectives;

pub(crate) use collectives::Collectives;

/// Returns the collectives of this process's group; `None` of a process by itself.
pub(crate) fn collectives() -> Option<std::sync::Arc<dyn Collectives>> {
    None
}
