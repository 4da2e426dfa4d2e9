//! Observers that a config names: a run's figures as TensorBoard event files or in an MLflow folder.
//!
//! Both hold the same curves (`scalars.rs`). What cannot be written is said once and then left: an observer
//! never ends a run, and no file of the run depends on it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod mlflow;
mod recorder;
mod scalars;
mod tensorboard;

pub use mlflow::MlflowConfig;
pub use tensorboard::TensorboardConfig;
