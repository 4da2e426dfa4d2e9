//! Errors of audits.

use std::path::PathBuf;

/// Failure of an audit or of judging again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The folder has no verdicts.
    #[error(
        "{path} has no verdicts: it has no `iteration-NN/verdicts.jsonl`; give the folder that a run was written to"
    )]
    NoVerdicts {
        /// The path as given.
        path: PathBuf,
    },
    /// The responses of a verdict are missing.
    #[error(
        "{run}, iteration {iteration}: there are no two answers of sample `{sample}` as its verdict says; restore responses.jsonl from a copy"
    )]
    NoAnswers {
        /// The run.
        run: PathBuf,
        /// The iteration.
        iteration: u32,
        /// The sample.
        sample: String,
    },
    /// Another judge's verdicts are on other responses.
    #[error(
        "{other} judges none of the answers of {run}; name a folder of verdicts on the same answers, such as what `isr audit --config` writes"
    )]
    OtherAnswers {
        /// The run that is audited.
        run: PathBuf,
        /// The other judge's folder.
        other: PathBuf,
    },
    /// The weights that judged an iteration are missing or differ.
    #[error("{run}, iteration {iteration}: {reason}")]
    OtherModel {
        /// The run.
        run: PathBuf,
        /// The iteration.
        iteration: u32,
        /// Cause and remedy.
        reason: String,
    },
    /// Judging with another video was requested for a run with one video.
    #[error(
        "{run}, iteration {iteration}: all verdicts are on one video, so there is no other to show; choose `video = \"blank\"`"
    )]
    OneVideo {
        /// The run.
        run: PathBuf,
        /// The iteration.
        iteration: u32,
    },
    /// A component failed, a file could not be read or written, or the audit was stopped.
    #[error(transparent)]
    Store(#[from] isr_api::Error),
}
