//! Errors of reports.

use std::path::PathBuf;

/// Failure of a report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The list of runs is empty.
    #[error("no run given; name at least one run directory")]
    NoRuns,
    /// The path is not a run directory.
    #[error(
        "{path} is not a run directory: it has neither summary.json nor config.toml; give the folder \
         that a run was written to"
    )]
    NotARun {
        /// The path as given.
        path: PathBuf,
    },
    /// `summary.json` has an unknown schema version.
    #[error(
        "{path} has schema {found}, and this version reads schema {known}; use the version of isr that wrote it"
    )]
    UnknownSchema {
        /// Path of `summary.json`.
        path: PathBuf,
        /// Schema version found.
        found: u64,
        /// Supported schema version.
        known: u32,
    },
    /// A file of the run cannot be parsed.
    #[error(
        "{path}:{line} is damaged: {reason}; restore the file from a copy, or remove it to report on the rest"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Error of the parser.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `read`, `write`, `replace`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The audit of the judges failed.
    #[error("cannot audit the judges: {0}")]
    Audit(#[from] crate::audit::AuditError),
    /// A frame could not be encoded as PNG.
    #[error("cannot encode a frame of {video} as PNG: {source}")]
    Thumbnail {
        /// The video.
        video: String,
        /// The encoder's error.
        source: png::EncodingError,
    },
    /// A template failed, which is a bug.
    #[error("cannot render the report: {0:#}; please report this")]
    Template(#[from] minijinja::Error),
}

impl ReportError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, line: usize, reason: impl ToString) -> Self {
        Self::Damaged { path: path.into(), line, reason: reason.to_string() }
    }
}
