//! Tests of every objective: the contract, the reference implementation's figures, and the configs.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod closed_forms;
mod config;
mod contract;
mod golden;
mod golden_family;
mod own_loss;
mod settings;
mod trainer_faults;
