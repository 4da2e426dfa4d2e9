//! Observers watch a run: progress bars, logs, metric sinks. The loop does not know what they do.

use std::path::Path;

use crate::policy::StepReport;
use crate::records::{EvaluationRecord, IterationSummary};

/// A stage of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Writing visual contexts.
    Retrospect,
    /// Sampling responses.
    Respond,
    /// Judging them.
    Judge,
    /// Scoring what the objective asks for beside the pairs.
    Reference,
    /// Training.
    Train,
    /// Evaluating on held-out samples.
    Evaluate,
}

impl Stage {
    /// Name in journals, random streams and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retrospect => "retrospect",
            Self::Respond => "respond",
            Self::Judge => "judge",
            Self::Reference => "reference",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run starts, or goes on, at `iteration`.
    RunStarted {
        /// The run's name.
        run: &'a str,
        /// The run's directory.
        dir: &'a Path,
        /// First iteration with work left.
        iteration: u32,
        /// Iterations in all.
        iterations: u32,
    },
    /// A stage starts; `done` of `total` items were done in an earlier session. Iteration 0 is the
    /// starting model's evaluation.
    StageStarted {
        /// The iteration, from 1.
        iteration: u32,
        /// The stage.
        stage: Stage,
        /// Items done before.
        done: usize,
        /// Items in all.
        total: usize,
    },
    /// One more item of the current stage is journalled.
    ItemDone {
        /// The stage.
        stage: Stage,
    },
    /// A sample was quarantined.
    Quarantined {
        /// The stage.
        stage: Stage,
        /// The sample or video.
        subject: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// One optimiser step was taken.
    TrainStep {
        /// The iteration.
        iteration: u32,
        /// The step, from 0.
        step: u64,
        /// Its figures.
        report: &'a StepReport,
    },
    /// A stage is complete.
    StageFinished {
        /// The iteration.
        iteration: u32,
        /// The stage.
        stage: Stage,
        /// Wall-clock seconds in this session.
        seconds: f64,
    },
    /// A stage was taken over from a run that it is the same in.
    StageShared {
        /// The iteration.
        iteration: u32,
        /// The stage.
        stage: Stage,
        /// Seconds that it took there.
        seconds: f64,
    },
    /// The starting model was evaluated.
    BaseEvaluated {
        /// Its figures.
        evaluation: &'a EvaluationRecord,
    },
    /// An iteration is complete.
    IterationFinished {
        /// Its row of the summary.
        summary: &'a IterationSummary,
    },
    /// All iterations are complete.
    RunFinished,
}

/// Watches a run.
///
/// # Contract
/// Called from the loop's own task in order; must return soon. It cannot change the run.
pub trait Observer: Send + Sync {
    /// Sees one event.
    fn observe(&self, event: &Event<'_>);
}
