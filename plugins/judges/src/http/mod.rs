//! The judge `http`: a model behind an OpenAI-compatible server.
//!
//! ```text
//! case -> request (request.rs) -> cache (cache.rs) -> pace, budget, server, retries (client.rs) -> reply
//! ```
//!
//! A verdict is asked for until it is had, or until it is clear that it will not be: whatever goes wrong on
//! the way (429, 5xx, time-outs, torn or senseless bodies) is tried again a bounded number of times, and
//! then stops the run in a state that continues. What was paid for is in the cache, so it is not paid for
//! twice. A request that the server calls bad quarantines its sample.
//!
//! The key comes from an environment variable, which the config names. It is in no config, no cache entry,
//! no error and no log.

mod backoff;
mod budget;
mod cache;
mod client;
mod config;
mod connection;
mod frames;
mod judge;
mod pace;
mod reply;
mod request;

pub use budget::{BudgetConfig, PricesConfig};
pub use config::HttpJudgeConfig;
pub use frames::FramesConfig;
