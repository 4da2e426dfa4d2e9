//! Everything libtorch: video LMMs of several families as an encoder (`clip`) and a policy (`llava`).
//!
//! | to read | where |
//! |---|---|
//! | the model: tower, projector, decoder | `model/` |
//! | what differs between LLaVA, Qwen-VL and the others | `model/families/` |
//! | prompts to tokens and visual features | `chat.rs`, `visual.rs` |
//! | generation and scoring, batched | `engine/` |
//! | one optimiser step | `train/` |
//! | checkpoints in the Hugging Face layout | `checkpoint.rs`, `manifest.rs`, `model/weights.rs` |
//! | safetensors files, tensor by tensor | `tensors/` |
//! | low-rank adapters in PEFT's format | `lora/` |
//! | what a model needs, from headers | `inspect/` |
//! | a new small model with a tokenizer | `new_model.rs` |
//! | models of the Hugging Face hub | `hub/` (cargo feature `hub`) |
//!
//! Numbers are checked against transformers in `tests/golden.rs`.

mod allocator;
mod chat;
mod checkpoint;
mod cpu_lock;
mod device;
mod encoder;
mod engine;
mod error;
pub mod hub;
mod inspect;
mod json_file;
mod lora;
mod manifest;
mod model;
mod model_paths;
mod new_model;
mod policy;
mod tensors;
mod train;
mod visual;

pub use allocator::keep_freed_memory;
pub use device::Precision;
pub use encoder::{VisionTowerConfig, VisionTowerEncoder};
pub use engine::Logits;
pub use error::TorchError;
pub use inspect::{InspectConfig, Inspection, Memory, ModelPart, inspect};
pub use lora::{AdapterSummary, AllLinear, LoraConfig, Targets, merge};
pub use model::preprocess::Preprocess;
pub use new_model::NewModelConfig;
pub use policy::{TorchPolicy, TorchPolicyConfig};
pub use train::TrainingConfig;
