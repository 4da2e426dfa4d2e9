//! Errors of `isr-data`.

use std::fmt;
use std::path::PathBuf;

use isr_api::{ComponentError, SampleId};

/// Where in a file a sample stands, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a text file.
    Line(usize),
    /// A row of a table.
    Row(usize),
}

impl Place {
    /// As a part of a sentence.
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

/// What can go wrong in reading samples.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A setting cannot be used.
    #[error("{0}")]
    Config(String),
    /// A file or folder could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is no Parquet file, or is damaged.
    #[cfg(feature = "parquet")]
    #[error("cannot read {path} as Parquet: {source}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The reader's error.
        source: parquet::errors::ParquetError,
    },
    /// A table lacks a column that the config names.
    #[error("{path}: {reason}")]
    Table {
        /// The file.
        path: PathBuf,
        /// What is missing, and what is there.
        reason: String,
    },
    /// A line or row is no sample.
    #[error("{path}{place}: {reason}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// What is wrong, and what is expected.
        reason: String,
    },
    /// A sample that is meant for measuring has no reference answer.
    #[error("{path}: sample `{id}` has no `{key}`; a sample of an evaluation or audit list needs one")]
    NoAnswer {
        /// The list.
        path: PathBuf,
        /// The first such sample.
        id: SampleId,
        /// Where the answer was looked for.
        key: String,
    },
    /// Training and evaluation share a video.
    #[error(
        "{evaluation} and {training} share the video {video}; evaluation must be on videos that are not \
         trained on"
    )]
    SharedVideo {
        /// The training list or folder.
        training: PathBuf,
        /// The evaluation list.
        evaluation: PathBuf,
        /// The first video that is in both.
        video: PathBuf,
    },
    /// There is nothing to read.
    #[error("{path} holds no {wanted}")]
    Nothing {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
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
