//! Observers that log a run's metrics: TensorBoard event files, an MLflow file store and offline runs of Weights & Biases.
//!
//! All log the same scalars (`scalars.rs`). After an I/O error an observer logs one warning and stops
//! recording: it never fails a run, and no file of the run depends on it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod mlflow;
mod recorder;
mod scalars;
mod tensorboard;
mod wandb;

pub use mlflow::MlflowConfig;
pub use tensorboard::TensorboardConfig;
pub use wandb::WandbConfig;
