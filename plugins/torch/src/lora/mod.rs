//! LoRA adapters (arXiv 2106.09685) on linear layers, in PEFT's format (peft 0.21).
//!
//! | topic | module |
//! |---|---|
//! | settings | [`LoraConfig`] |
//! | choice of modules, ranks and alphas by name | `patterns.rs` |
//! | adapter of one layer | `layer.rs` |
//! | magnitudes of DoRA | `dora.rs` |
//! | modules that are trained in full | `saved.rs` |
//! | adapter of a model: creation, saving, loading | `adapter.rs` |
//! | matrices and their files | `pairs.rs` |
//! | `adapter_config.json` and tensor names | `peft.rs` |
//! | reproducible dropout | `dropout.rs` |
//! | rank, scale and size of an adapter folder | `summary.rs` |
//! | merging into the base | `merge.rs` |

mod adapter;
mod config;
mod dora;
mod dropout;
mod layer;
mod merge;
mod pairs;
mod patterns;
mod peft;
mod saved;
mod summary;

pub(crate) use adapter::Adapter;
pub use config::{AllLinear, LoraConfig, Modules, Targets};
pub(crate) use layer::Lora;
pub use merge::merge;
pub(crate) use merge::resized;
pub(crate) use peft::{base_of, is_adapter};
pub use summary::AdapterSummary;
pub(crate) use summary::summary;
