//! Tests of the method's components, on a policy that records what it is asked.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod config;
mod contract;
mod fake;
mod judge;
mod prompts;
mod retrospector;
mod selection;
