//! Layered config.

mod component_schema;
mod components;
mod difference;
mod evaluation;
mod iteration;
mod run;
mod train;

pub use components::Components;
pub use difference::difference;
pub use evaluation::EvaluationConfig;
pub use iteration::LoopConfig;
pub use run::RunConfig;
pub use train::{Schedule, TrainConfig};
