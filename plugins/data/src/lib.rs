//! Sample sources: lists in JSONL and Parquet, and folders of videos.
//!
//! | `type` | source | file |
//! |---|---|---|
//! | `jsonl` | JSONL or JSON arrays in LLaVA-Hound's layouts, or with any keys by a column map | `src/lists.rs`, `src/jsonl.rs`, `src/rows.rs` |
//! | `parquet` | the same in Parquet files, such as those of Hugging Face `datasets` | `src/lists.rs`, `src/parquet.rs` |
//! | `folder` | one instruction for each video of a folder | `src/folder.rs` |
//!
//! Lists are read in two steps. A format reader turns a file into rows: JSON objects with a position in the
//! file. A [`Layout`] or a column map ([`Columns`]) then extracts id, video, instruction and answer. So every
//! format supports every layout.
//!
//! All lists are validated before a run starts; errors name file, line or row, and column. Reference answers
//! reach measuring code only: training gets a [`Sample`](isr_api::Sample), which has no field for one.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod columns;
mod conversation;
mod error;
mod folder;
mod jsonl;
mod layout;
mod layouts;
mod lists;
mod media;
mod names;
#[cfg(feature = "parquet")]
mod parquet;
mod paths;
mod preferences;
mod question;
mod row;
mod rows;
mod source;
mod table;
mod videos;

pub use columns::Columns;
pub use error::{DataError, Place};
pub use folder::FolderConfig;
pub use jsonl::JsonlConfig;
pub use layout::Layout;
#[cfg(feature = "parquet")]
pub use parquet::ParquetConfig;
pub use paths::Paths;
pub use preferences::{PreferenceColumns, PreferenceFilesConfig, PreferenceLayout};
pub use rows::{RowError, Rows};
