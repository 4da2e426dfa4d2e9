//! Errors of `isr-data`.

use std::fmt;
use std::path::PathBuf;

use isr_api::{ComponentError, SampleId};

/// Position of a sample in a file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Line of a text file.
    Line(usize),
    /// Row of a table.
    Row(usize),
}

impl Place {
    /// The position as part of a sentence.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Line(number) => format!("on line {number}"),
            Self::Row(number) => format!("in row {number}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(number) => write!(f, ":{number}"),
            Self::Row(number) => write!(f, ", row {number}"),
        }
    }
}

/// Errors of reading samples.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Invalid setting.
    #[error("{0}")]
    Config(String),
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// A file is no valid Parquet file.
    #[cfg(feature = "parquet")]
    #[error("cannot read {path} as Parquet: {source}")]
    Parquet {
        /// Path of the file.
        path: PathBuf,
        /// Error of the Parquet reader.
        source: parquet::errors::ParquetError,
    },
    /// A table lacks a column that the config names.
    #[error("{path}: {reason}")]
    Table {
        /// Path of the file.
        path: PathBuf,
        /// Missing column, and the existing ones.
        reason: String,
    },
    /// A line or row is no valid sample.
    #[error("{path}{place}: {reason}")]
    Row {
        /// Path of the file.
        path: PathBuf,
        /// Position in the file.
        place: Place,
        /// Reason, and what is expected.
        reason: String,
    },
    /// A sample of an evaluation or audit list has no reference answer.
    #[error("{path}: sample `{id}` has no `{key}`; a sample of an evaluation or audit list needs one")]
    NoAnswer {
        /// Path of the list.
        path: PathBuf,
        /// Id of the first such sample.
        id: SampleId,
        /// Key or column of the answer.
        key: String,
    },
    /// Training and evaluation data share a video.
    #[error(
        "{evaluation} and {training} share the video {video}; evaluation must be on videos that are not \
         trained on"
    )]
    SharedVideo {
        /// Path of the training list or folder.
        training: PathBuf,
        /// Path of the evaluation list.
        evaluation: PathBuf,
        /// First shared video.
        video: PathBuf,
    },
    /// A folder has no files of the expected kind.
    #[error("{path} holds no {wanted}")]
    Nothing {
        /// Path of the folder.
        path: PathBuf,
        /// Expected kind of file.
        wanted: String,
    },
}

impl DataError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl From<DataError> for ComponentError {
    fn from(error: DataError) -> Self {
        Self::failed(error)
    }
}
