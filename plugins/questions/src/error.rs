//! Errors of `isr-questions`.

use crate::rows::Layout;

/// Errors of question files, prediction files and scorers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuestionsError {
    /// Invalid setting; the message names it.
    #[error("{0}")]
    Setting(String),
    /// A file without rows.
    #[error("it has no {what}s")]
    Empty {
        /// What the rows should be.
        what: &'static str,
    },
    /// A file of which no row can be used.
    #[error("none of its {rows} rows is a {what}; line {line}: {reason}")]
    NoneUsable {
        /// What the rows should be.
        what: &'static str,
        /// Number of rows.
        rows: usize,
        /// Line of the first.
        line: usize,
        /// What is wrong with the first.
        reason: String,
    },
    /// A question file in no known layout.
    #[error(
        "line {line} is in no layout of question files; the nearest is `{nearest}`, of which it lacks `{missing}` \
         (it has `{keys}`)"
    )]
    Layout {
        /// Line of the first row.
        line: usize,
        /// The layout of which most keys are there.
        nearest: Layout,
        /// Missing keys.
        missing: String,
        /// Keys of the row.
        keys: String,
    },
    /// A question file in another layout than the given one.
    #[error(
        "line {line} lacks `{missing}` of layout `{wanted}`; it is in layout `{found}`: set `layout` to that, or leave it out"
    )]
    OtherLayout {
        /// Line of the first row.
        line: usize,
        /// The given layout.
        wanted: Layout,
        /// The row's layout.
        found: Layout,
        /// Missing keys.
        missing: String,
    },
    /// A question file that a scorer has no use for.
    #[error("{reason} (all {questions} questions of the file); {remedy}")]
    OtherScorer {
        /// What the questions lack.
        reason: String,
        /// Number of questions.
        questions: usize,
        /// What to do.
        remedy: String,
    },
    /// A scorer that gave no readable reply at all.
    #[error(
        "scorer {scorer}: none of its {replies} replies could be read, so there is no accuracy; the first is \
         `{first}`: set another model or prompt in [scoring], or remove {path} to ask again"
    )]
    Nonsense {
        /// Scorer and its model.
        scorer: String,
        /// Number of replies.
        replies: usize,
        /// Beginning of the first.
        first: String,
        /// File of the replies.
        path: std::path::PathBuf,
    },
}
