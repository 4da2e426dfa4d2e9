//! Annotation of a run's pairs by people in a browser: `isr annotate`.
//!
//! | to read | where |
//! |---|---|
//! | which pairs are annotated | `cases.rs` |
//! | what a person said of them: `RUN/annotations.jsonl` | `store.rs` |
//! | which pair is asked about next, and in which order it is shown | `session.rs` |
//! | the page, and what it asks the server | `page.html`, `server.rs`, `clip.rs` |
//!
//! A person sees the clip, the instruction and both answers, and not which of them was sampled first, which
//! the judge preferred, or which iteration they are from. What is chosen is on disk before the next pair is
//! shown.

mod cases;
mod clip;
mod error;
mod server;
mod session;
mod store;

use std::path::PathBuf;

pub use error::AnnotateError;
pub use server::router;

/// The file in a run directory that holds what people said.
pub const ANNOTATIONS: &str = "annotations.jsonl";

/// Whose opinion is asked, and of what.
#[derive(Clone, Debug)]
pub struct AnnotateOptions {
    /// The run directory.
    pub run: PathBuf,
    /// Which iteration's pairs; `None` for the last that has any.
    pub iteration: Option<u32>,
    /// Who answers. The same name continues where it left off.
    pub annotator: String,
    /// Where the run's relative video paths start: the folder that it was started in.
    pub video_root: PathBuf,
}
