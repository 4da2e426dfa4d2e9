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
    /// A file could not be read or written.
    #[error(transparent)]
    Store(#[from] isr_core::Error),
}
