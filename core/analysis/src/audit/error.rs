//! What can go wrong while a run is audited.

use std::path::PathBuf;

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The path holds no run with verdicts.
    #[error(
        "{path} has no verdicts: it has no `iteration-NN/verdicts.jsonl`; give the folder that a run was written to"
    )]
    NoVerdicts {
        /// The path as given.
        path: PathBuf,
    },
    /// A verdict is about answers that are not there.
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
    /// Another judge's verdicts are about other answers.
    #[error(
        "{other} judges none of the answers of {run}; name a folder of verdicts on the same answers, such as what `isr audit --config` writes"
    )]
    OtherAnswers {
        /// The run that is audited.
        run: PathBuf,
        /// The other judge's folder.
        other: PathBuf,
    },
    /// The model that judged an iteration is not there any more.
    #[error("{run}, iteration {iteration}: {reason}")]
    OtherModel {
        /// The run.
        run: PathBuf,
        /// The iteration.
        iteration: u32,
        /// What is missing or differs, and what to do.
        reason: String,
    },
    /// Another video was to be shown, and there is none.
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
