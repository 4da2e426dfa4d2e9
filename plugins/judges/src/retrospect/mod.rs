//! Retrospectors: components that write the visual context (description) of a video.

mod fixed;
mod self_retrospector;

pub use fixed::{FixedRetrospector, FixedRetrospectorConfig};
pub use self_retrospector::{SelfRetrospector, SelfRetrospectorConfig};
