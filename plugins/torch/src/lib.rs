//! Everything libtorch: the LLaVA-form video LMM as an encoder (`clip`) and a policy (`llava`).
//!
//! | to read | where |
//! |---|---|
//! | the model: tower, projector, decoder | `model/` |
//! | prompts to tokens and visual features | `chat.rs`, `visual.rs` |
//! | generation and scoring, batched | `engine/` |
//! | one optimiser step | `train/` |
//! | checkpoints in the Hugging Face layout | `checkpoint.rs`, `model/weights.rs` |
//! | a new small model with a tokenizer | `new_model.rs` |
//!
//! Numbers are checked against transformers in `tests/golden.rs`.

mod chat;
mod checkpoint;
mod device;
mod encoder;
mod engine;
mod error;
mod model;
mod new_model;
mod policy;
mod train;
mod visual;

pub use device::Precision;
pub use encoder::{ClipConfig, ClipEncoder};
pub use engine::Logits;
pub use error::TorchError;
pub use model::preprocess::Preprocess;
pub use new_model::NewModelConfig;
pub use policy::{LlavaConfig, LlavaPolicy};
pub use train::TrainingConfig;
