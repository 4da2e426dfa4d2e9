//! Tests of every objective: the contract, the reference implementation's figures, and the configs.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod config;
mod contract;
mod golden;
mod trainer_faults;
