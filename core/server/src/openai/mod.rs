//! OpenAI-compatible chat-completions server over a [`Policy`](isr_api::Policy): `isr serve`.
//!
//! | path | reply |
//! |---|---|
//! | `POST /v1/chat/completions` | completions, whole or streamed as server-sent events |
//! | `GET /v1/models`, `/v1/models/NAME` | the one model |
//! | `GET /health` | liveness; needs no token |
//! | `GET /metrics` | counters in Prometheus' text format |
//!
//! ```text
//! request -> authorization -> body (bodies.rs) -> queue (queue.rs) -> JSON (request.rs) -> videos and images (media.rs)
//!   -> policy
//!   -> reply.rs, or stream.rs while it is written
//! ```
//!
//! The policy batches concurrent requests. The server admits a bounded number of them and answers the rest with 429. A client
//! that disconnects cancels its request. A parameter that would change the answer and is not supported is an error that names
//! it; one that would not is accepted and named in the header `x-isr-ignored`. Open connections, bodies, text, media and places are bounded, each before the work that it would cause, and no address
//! can take all of them.

mod allowed;
mod app;
mod bodies;
mod error;
mod ignored;
mod keys;
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

/// Model and readers of a server.
pub struct Served {
    /// Model name that clients send as `model`.
    pub name: String,
    /// Policy that generates.
    pub policy: FrozenPolicy,
    /// Reader of videos.
    pub videos: Arc<dyn VideoReader>,
    /// Reader of images, as videos of one frame. It is given folders that hold one PNG or JPEG, and other image files.
    pub images: Arc<dyn VideoReader>,
    /// Frame encoder; `None` where the policy encodes frames with its own vision tower.
    pub encoder: Option<Arc<dyn VideoEncoder>>,
    /// System prompt of conversations without one.
    pub system: Option<String>,
}

/// Limits and authentication of a server.
pub struct ServeOptions {
    /// Authentication of all paths but `/health`. Default [`Auth::Loopback`].
    pub auth: Auth,
    /// Folders below which `file:` URLs may name files. Default none.
    pub allowed: Vec<PathBuf>,
    /// Largest `max_completion_tokens`, in tokens, and its default for requests without one. Default 1024.
    pub max_tokens: usize,
    /// Frames that the reader takes of each video, where that is one number; a request that names another is an error. Default
    /// none.
    pub frames: Option<usize>,
    /// Completions in flight; further requests get 429. One address may have three quarters of them. Default 64.
    pub queue: usize,
    /// Largest request body, in bytes; bodies of eight times this size are received at once. Default 64 MiB.
    pub body_bytes: usize,
    /// Largest text of a request's messages, in bytes; it bounds the work of tokenising what does not fit the model's context.
    /// Default 1 MiB.
    pub text_bytes: usize,
    /// Size of the cache of frames and features, in bytes, and the most that one request may have of them; requests under way
    /// hold at most twice as much beside the cache. Default 512 MiB.
    pub media_bytes: u64,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            auth: Auth::Loopback,
            allowed: Vec::new(),
            max_tokens: 1024,
            frames: None,
            queue: 64,
            body_bytes: 64 << 20,
            text_bytes: 1 << 20,
            media_bytes: 512 << 20,
        }
    }
}
