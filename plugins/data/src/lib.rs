//! Data as people have it: samples, preference pairs and demonstrations in JSONL, JSON and Parquet, and folders of videos.
//!
//! | kind and `type` | source | file |
//! |---|---|---|
//! | data `jsonl` | JSONL or JSON arrays in LLaVA-Hound's layouts, or with any keys by a column map | `src/lists.rs`, `src/jsonl.rs`, `src/rows.rs` |
//! | data `parquet` | the same in Parquet files, such as those of Hugging Face `datasets` | `src/lists.rs`, `src/parquet.rs` |
//! | data `folder` | one instruction for each video of a folder | `src/folder.rs` |
//! | data `mixture` | several of these, or of other crates, with weights | `src/mixture.rs` |
//! | preferences `files` | preference pairs in the layouts of datasets and trainers | `src/preferences` |
//! | demonstrations `files` | conversations of LLaVA, ms-swift and TRL | `src/demonstrations` |
//!
//! Files are read in two steps. A format reader turns a file into rows: JSON objects with a position in the
//! file. A layout or a column map then extracts ids, videos and texts. So every format supports every layout.
//!
//! Lists of samples are validated before a run starts; errors name file, line or row, and column. Reference answers
//! reach measuring code only: training gets a [`Sample`](isr_api::Sample), which has no field for one. Rows of pairs and
//! demonstrations that cannot be used are quarantined one by one, as such sets are found and not made.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod columns;
mod conversation;
mod demonstrations;
mod error;
mod folder;
mod jsonl;
mod layout;
mod layouts;
mod lists;
mod media;
mod mixture;
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
pub use demonstrations::{DemonstrationColumns, DemonstrationFilesConfig, DemonstrationLayout};
pub use error::{DataError, Place};
pub use folder::FolderConfig;
pub use jsonl::JsonlConfig;
pub use layout::Layout;
pub use mixture::{MixtureConfig, MixtureSource};
#[cfg(feature = "parquet")]
pub use parquet::ParquetConfig;
pub use paths::Paths;
pub use preferences::{PreferenceColumns, PreferenceFilesConfig, PreferenceLayout};
pub use rows::{RowError, Rows};
