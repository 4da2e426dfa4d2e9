//! Processes that train one model together.

mod collectives;

pub(crate) use collectives::Collectives;
