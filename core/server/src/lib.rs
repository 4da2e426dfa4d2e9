//! The HTTP servers of isr-dpo.
//!
//! | server | module |
//! |---|---|
//! | an OpenAI-compatible server over a policy: `isr serve` | [`openai`] |
//! | annotation of a run's pairs by people in a browser: `isr annotate` | [`annotate`] |
//! | what both share: listening, graceful shutdown, authentication | [`http`] |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

pub mod annotate;
pub mod http;
pub mod openai;
