//! Samplers: inference engines that sample responses, contexts and written verdicts in the policy's place.
//!
//! | topic | module |
//! |---|---|
//! | settings of `type = "vllm"` | [`VllmConfig`] |
//! | weights on the server, requests, repairs | `sampler.rs` |
//! | the server as a process of ours | `process.rs` |
//! | bodies of requests | `request.rs` |
//! | replies | `reply.rs` |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod config;
mod process;
mod reply;
mod request;
mod sampler;

pub use config::{Media, VllmConfig};
