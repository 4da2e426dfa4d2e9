//! Tests of plugins in WebAssembly: the example, compiled from C, and modules that misbehave in every way.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod built;
mod contract;
mod example;
mod files;
mod hostile;
mod interface;
mod objective;
mod refused;
mod retrospector;
mod support;
