//! The iterative preference optimisation loop of isr-dpo, and what it stands on.
//!
//! | to read | where |
//! |---|---|
//! | the algorithm | [`IterativeLoop`] (`src/loop`) |
//! | supervised training on demonstrations | [`SupervisedTraining`] |
//! | run directories: journals, atomic files, locks | [`store`] |
//! | visual features that iterations and runs share, on disk | [`feature_cache`] |
//! | stage results that runs share | [`stage_cache`] |
//!
//! Links no tensor library, starts no process, and knows no component by name.

mod components;
mod crop;
pub mod feature_cache;
mod guard;
mod r#loop;
pub mod stage_cache;
pub mod store;
mod supervised;
mod training;
mod video_cache;

pub use components::{ComponentValues, Components};
pub use r#loop::{IterativeLoop, LoopParts};
pub use store::first_difference;
pub use supervised::{SupervisedParts, SupervisedTraining};
pub use video_cache::VideoCache;
