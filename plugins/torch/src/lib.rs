//! Video LMMs on libtorch: the policy `torch` and the encoder `vision_tower`, for checkpoints of several families.
//!
//! | topic | module |
//! |---|---|
//! | model: vision tower, projector, decoder | `model/` |
//! | checkpoint formats (LLaVA, Qwen-VL, ...) | `model/families/` |
//! | prompt rendering, tokenisation, visual features | `chat/`, `visual.rs` |
//! | batched generation and scoring | `engine/` |
//! | training | `train/` |
//! | checkpoints in the Hugging Face layout | `checkpoint.rs`, `manifest.rs`, `model/weights.rs` |
//! | safetensors files | `tensors/` |
//! | processes that train one model together | `process_group/` |
//! | LoRA adapters in PEFT's format | `lora/` |
//! | parameter counts and memory estimates | `inspect/` |
//! | operators of libtorch that tch does not bind | `operators/` |
//! | processes that run one loop together | `process_group/` |
//! | creation of a small model with a tokenizer | `new_model.rs` |
//! | models of the Hugging Face hub | `hub/` (cargo feature `hub`) |
//!
//! Numerics are checked against transformers 5.23.0 in `tests/golden.rs`.

mod allocator;
mod capacity;
mod chat;
mod checkpoint;
mod cpu_lock;
mod device;
mod device_clock;
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
mod operators;
mod policy;
pub mod process_group;
mod tensors;
mod train;
mod visual;

pub use allocator::keep_freed_memory;
pub use chat::{ReasoningConfig, ReasoningMode};
pub use device::{Precision, PrecisionConfig};
pub use encoder::{VisionTowerConfig, VisionTowerEncoder};
pub use engine::Logits;
pub use error::TorchError;
pub use inspect::{ChatSummary, InspectConfig, Inspection, Memory, ModelPart, inspect};
pub use lora::{AdapterSummary, AllLinear, LoraConfig, Modules, Targets, merge};
pub use model::Quantization;
pub use model::preprocess::Preprocess;
pub use new_model::NewModelConfig;
pub use policy::{DecodingConfig, TorchPolicy, TorchPolicyConfig};
pub use train::{OptimizerConfig, OptimizerStateConfig, ParallelConfig, ShardConfig, TrainingConfig};
