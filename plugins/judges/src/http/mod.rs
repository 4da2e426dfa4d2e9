//! The judge `http`: a model behind an OpenAI-compatible server.
//!
//! ```text
//! case -> request (request.rs) -> cache (cache.rs) -> pace, budget, server, retries (client.rs) -> reply
//! ```
//!
//! Transient failures (429, 5xx, time-outs, truncated or invalid bodies) are retried a bounded number of times,
//! and then stop the run, which can be continued. Replies are cached, so they are not paid for twice. A
//! request that the server rejects as bad quarantines its sample, unless the server names a parameter that all
//! requests have: that stops the run.
//!
//! The API key comes from an environment variable named in the config. It is in no config, cache entry, error
//! or log.

mod backoff;
mod budget;
mod cache;
mod client;
mod config;
mod connection;
mod frames;
mod judge;
mod pace;
mod refusal;
mod reply;
mod request;

pub use budget::{BudgetConfig, PricesConfig};
pub use config::{HttpJudgeConfig, Omit, Temperature};
pub use frames::FramesConfig;
pub use request::MaxTokensKey;
