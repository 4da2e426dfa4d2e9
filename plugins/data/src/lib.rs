//! Samples from what people have: lists in JSONL and Parquet, and folders of videos.
//!
//! | `type` | what | file |
//! |---|---|---|
//! | `jsonl` | LLaVA-Hound's layouts, or any keys by a column map | `src/lists.rs`, `src/jsonl.rs` |
//! | `parquet` | the same in Parquet files, such as those of Hugging Face `datasets` | `src/lists.rs`, `src/parquet.rs` |
//! | `folder` | one question about each video of a folder | `src/folder.rs` |
//!
//! A list is read in two steps. A format turns a file into rows: JSON objects with a place in the file.
//! A [`Layout`], or a column map ([`Columns`]), then says which part of a row is the id, the video, the
//! instruction and the answer. So each format can hold each layout.
//!
//! Every list is read before a run starts, and a row that cannot be used is named with file, line or
//! row, and column. Answers reach measuring code only: what trains gets a
//! [`Sample`](isr_api::Sample), which has no field for one.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod columns;
mod error;
mod folder;
mod jsonl;
mod layout;
mod lists;
mod names;
#[cfg(feature = "parquet")]
mod parquet;
mod question;
mod row;
mod source;

pub use columns::Columns;
pub use error::{DataError, Place};
pub use folder::FolderConfig;
pub use jsonl::JsonlConfig;
pub use layout::Layout;
#[cfg(feature = "parquet")]
pub use parquet::ParquetConfig;
