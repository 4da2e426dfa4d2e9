//! The sources as a config sees them: built from their config, asked for their samples.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod columns;
mod components;
mod demonstrations;
mod folder;
mod layouts;
mod lists;
mod mixture;
mod parquet;
mod parts;
mod preferences;
mod support;
