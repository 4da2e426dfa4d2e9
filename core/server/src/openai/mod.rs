//! An OpenAI-compatible server over a policy: `isr serve`.
//!
//! | path | what |
//! |---|---|
//! | `POST /v1/chat/completions` | answers, whole or as server-sent events while they are written |
//! | `GET /v1/models`, `/v1/models/NAME` | the one model |
//! | `GET /health` | whether the process serves; needs no token |
//! | `GET /metrics` | counters in Prometheus' text format |
//!
//! ```text
//! request -> authorization -> queue (queue.rs) -> body -> JSON (request.rs) -> videos and images (media.rs) -> policy
//!   -> reply.rs, or stream.rs while it is written
//! ```
//!
//! The policy batches what comes at the same time; here, a bounded number of requests is let in, and those
//! beyond are told to come again. A client that goes away takes its request with it. Whatever a request asks
//! for that would change the answer and cannot be had is an error that names it.

mod allowed;
mod app;
mod error;
mod media;
mod metrics;
mod models;
mod queue;
mod reply;
mod request;
mod routes;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;

use isr_api::{FrozenPolicy, VideoEncoder, VideoReader};

use crate::http::Auth;

pub use error::ServeError;
pub use routes::router;

/// What is served.
pub struct Served {
    /// The model's name for clients.
    pub name: String,
    /// What answers.
    pub policy: FrozenPolicy,
    /// Reads videos.
    pub videos: Arc<dyn VideoReader>,
    /// Reads images, as videos of one frame: files, and folders that hold one PNG or JPEG.
    pub images: Arc<dyn VideoReader>,
    /// The encoder of frames; `None` where the policy's own tower sees them.
    pub encoder: Option<Arc<dyn VideoEncoder>>,
    /// Standing instructions of conversations that bring none.
    pub system: Option<String>,
}

/// What clients may do.
pub struct ServeOptions {
    /// Who may ask.
    pub auth: Auth,
    /// Folders whose files `file:` URLs may name. None: no file.
    pub allowed: Vec<PathBuf>,
    /// Longest answer in tokens; also that of requests that name no limit.
    pub max_tokens: usize,
    /// Requests that are let in at once.
    pub queue: usize,
    /// Longest body of a request, in bytes.
    pub body_bytes: usize,
    /// Memory for the frames and features of videos that are asked about again, in bytes.
    pub media_bytes: u64,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            auth: Auth::Loopback,
            allowed: Vec::new(),
            max_tokens: 1024,
            queue: 64,
            body_bytes: 64 << 20,
            media_bytes: 512 << 20,
        }
    }
}
