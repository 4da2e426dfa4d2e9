//! Whole-system tests of the binary `isr`.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod audit;
mod cache;
mod cases;
mod configs;
mod contracts;
mod errors;
mod evaluate;
mod export;
mod faults;
mod guides;
mod help;
mod human_judge;
mod jittered;
mod model;
mod plugin_commands;
mod plugin_faults;
mod plugin_files;
mod plugin_kinds;
mod plugin_models;
mod plugins;
mod preferences;
mod processes;
mod runs;
mod serve;
mod served_judge;
mod support;
mod swaps;
mod sweeps;
