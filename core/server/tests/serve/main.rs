//! The server over a policy and readers that do what a test tells them to.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod completions;
mod fake;
mod limits;
mod media;
mod streaming;
