//! The judge `http`: a model behind an OpenAI-compatible server, asked by the client of [`isr_chat`].
//!
//! A request that the server rejects as bad quarantines its sample, unless the server names a parameter that all
//! requests have: that stops the run.

mod config;
mod judge;

pub use config::HttpJudgeConfig;
