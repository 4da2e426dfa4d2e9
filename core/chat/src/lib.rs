//! Client of OpenAI-compatible servers, for judges, scorers and samplers.
//!
//! ```text
//! text, pictures -> request (request.rs) -> cache (cache.rs) -> pace, budget, server, retries (client.rs) -> reply
//! ```
//!
//! Transient failures (429, 5xx, time-outs, truncated or invalid bodies) are retried a bounded number of times,
//! and then fail; what was asked before is cached, so the same command goes on. Replies are cached by the content of
//! their requests, so they are not paid for twice. A request that the server rejects as bad is
//! [`BadInput`](isr_api::ComponentError::BadInput), unless the server names a parameter that all requests have.
//!
//! The API key comes from an environment variable named in the config. It is in no config, cache entry, error
//! or log.

mod backoff;
mod budget;
mod cache;
mod client;
mod connection;
mod endpoint;
mod error;
mod frames;
mod pace;
mod refusal;
mod reply;
mod request;
mod server;
mod temperature;

pub use budget::{BudgetConfig, PricesConfig};
pub use client::ChatClient;
pub use endpoint::{Answer, Endpoint};
pub use error::ChatError;
pub use frames::{FramesConfig, data_urls, png, png_base64};
pub use reply::{Reply, Usage};
pub use request::{MaxTokensKey, RequestStyle};
pub use server::ServerConfig;
pub use temperature::{Omit, Temperature};
