//! Human preference annotation of a run's pairs in a browser: `isr annotate`.
//!
//! | part | where |
//! |---|---|
//! | pairs to be annotated | `cases.rs` |
//! | recorded choices: `RUN/annotations.jsonl` | `store.rs` |
//! | queue of pairs and presentation order | `session.rs` |
//! | page and HTTP routes | `page.html`, `server.rs`, `clip.rs` |
//!
//! Annotation is blind: the page shows the clip, the instruction and both responses, without their sampling order, the judge's
//! verdict or the iteration. A choice is fsynced before the next pair is shown.

mod cases;
mod clip;
mod error;
mod server;
mod session;
mod store;

use std::path::PathBuf;

pub use error::AnnotateError;
pub use server::router;

/// Name of the annotations file in a run directory.
pub const ANNOTATIONS: &str = "annotations.jsonl";

/// Options of an annotation session.
#[derive(Clone, Debug)]
pub struct AnnotateOptions {
    /// The run directory.
    pub run: PathBuf,
    /// Iteration whose pairs are annotated; `None` for the last one that has pairs.
    pub iteration: Option<u32>,
    /// Name of the annotator. A session of the same name resumes an earlier one.
    pub annotator: String,
    /// Base of the run's relative video paths: the folder that the run was started in.
    pub video_root: PathBuf,
}
