//! Evaluation on question sets: files of questions and predictions, published scorers, figures with intervals, and the
//! table of a paper.
//!
//! | topic | where |
//! |---|---|
//! | question files ([`Questions`]) and prediction files ([`Predictions`]), in the layouts of others | `rows/` |
//! | scorers ([`Scorer`]), and the evaluator `questions` of a run | `scorer/` |
//!
//! `docs/evaluation.md` lists all settings, layouts and sources.

mod error;
mod rows;
mod scorer;

pub use error::QuestionsError;
pub use rows::{
    Layout, Outcome, Prediction, PredictionRow, Predictions, Question, Questions, Rejected,
    video_chatgpt_row, video_id,
};
pub use scorer::{Case, Form, Mark, Reading, Scorer, ScorerConfig, ScorerKind, Unparsed};
