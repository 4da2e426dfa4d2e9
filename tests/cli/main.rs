//! Whole-system tests of the binary `isr`.

mod configs;
mod embedding;
mod errors;
mod help;
mod model;
mod plugins;
mod runs;
mod support;
