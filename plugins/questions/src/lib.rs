//! Evaluation on question sets: files of questions and predictions, published scorers, figures with intervals, and the
//! table of a paper.
//!
//! | topic | where |
//! |---|---|
//! | question files ([`Questions`]) and prediction files ([`Predictions`]), in the layouts of others | `rows/` |
//! | scorers ([`Scorer`]), and the evaluator `questions` of a run | `scorer/` |
//! | marks of predictions on disk ([`mark_set`]) | `scoring.rs` |
//! | means with intervals clustered by video, paired differences ([`Results`]) | `figures.rs`, `result.rs` |
//! | the table, Markdown and LaTeX ([`table()`]) | `table.rs` |
//!
//! `docs/evaluation.md` lists all settings, layouts and sources.

mod error;
mod figures;
mod result;
mod rows;
mod scorer;
mod scoring;
mod table;

pub use error::QuestionsError;
pub use figures::Figure;
pub use result::{Difference, Domain, Results, SetResult, Stated};
pub use rows::{
    Layout, Outcome, Prediction, PredictionRow, Predictions, Question, Questions, Rejected,
    video_chatgpt_row, video_id,
};
pub use scorer::{Case, Form, Mark, Reading, Scorer, ScorerConfig, ScorerKind, Unparsed};
pub use scoring::{Marked, Quarantined, ScoringError, check_questions, mark_set, marks_file};
pub use table::{TableForm, table};
