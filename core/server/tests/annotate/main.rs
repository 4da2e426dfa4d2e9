//! Annotating a run over HTTP, and judging by what was said.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod bench;
mod judge;
mod pages;
