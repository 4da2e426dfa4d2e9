//! The iterative preference optimisation loop of isr-dpo, with run directories and caches.
//!
//! | topic | where |
//! |---|---|
//! | iterative DPO | [`IterativeLoop`] |
//! | supervised fine-tuning on demonstrations | [`SupervisedTraining`] |
//! | run directories: layout, journals, atomic writes, locks | [`store`] |
//! | on-disk cache of visual features | [`feature_cache`] |
//! | cache of stage results, shared by runs | [`stage_cache`] |
//! | decoded and encoded videos in memory | [`VideoCache`], on [`VideoMemory`] |
//! | which frames an iteration sees of a video | [`Look`] |
//! | words of a text, as lengths of answers | [`words`](mod@words) |
//!
//! The crate links no tensor library, starts no process, and depends on no concrete component.

mod components;
mod crop;
mod demonstration_quarantine;
pub mod feature_cache;
mod guard;
mod look;
mod r#loop;
mod observers;
mod offline;
mod processes;
mod sampled_policy;
pub mod stage_cache;
mod stop;
mod stopwatch;
pub mod store;
mod supervised;
mod time;
mod training;
mod video_cache;
mod video_identity;
mod video_memory;
pub mod words;

/// Environment variable with the process id of the command that started a run, so that the run ends with it.
pub const PARENT_VARIABLE: &str = "ISR_PARENT_PROCESS";

pub use components::{ComponentValues, Components, encoder_of};
pub use guard::unless_cancelled;
pub use look::Look;
pub use r#loop::{IterativeLoop, LoopParts, PreferenceData};
pub use offline::OfflineOnly;
pub use store::first_difference;
pub use supervised::{SupervisedParts, SupervisedTraining};
pub use time::utc_now;
pub use video_cache::VideoCache;
pub use video_memory::{Admission, VideoMemory};
