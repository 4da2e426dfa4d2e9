//! Tests of plugins in Python: the example, an objective, and files that misbehave in every way.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod contract;
mod fakes;
mod garbage;
mod guide;
mod hostile;
mod kinds;
mod messages;
mod models;
mod models_faults;
mod policy;
mod run;
mod sessions;
mod support;
