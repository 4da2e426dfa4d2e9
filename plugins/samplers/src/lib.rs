//! Samplers: inference engines that sample responses, contexts and written verdicts in the policy's place.
//!
//! | topic | module |
//! |---|---|
//! | settings of both | [`ServerSettings`] |
//! | weights on the server, requests, repairs | `sampler.rs` |
//! | the server as a process of ours | `process.rs` |
//! | what a server's interface must say | `dialect.rs` |
//! | `type = "vllm"`, `type = "sglang"` | [`VllmConfig`], [`SglangConfig`] |
//! | bodies of requests, replies | `request.rs`, `reply.rs` |
//! | frames as a lossless video file | `avi.rs` |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod avi;
mod config;
mod dialect;
mod process;
mod reply;
mod request;
mod sampler;
mod sglang;
mod vllm;

pub use config::{Media, ServerSettings};
pub use sglang::SglangConfig;
pub use vllm::VllmConfig;
