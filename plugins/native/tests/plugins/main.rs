//! Libraries that are built, loaded and called: the examples, a library with components of every kind, and
//! hostile ones.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod built;
mod contract;
mod hostile;
mod isolated;
mod isolated_models;
mod refused;
mod support;
mod versions;
