//! The [`Observer`] trait: events of a run for progress bars, logs and experiment trackers.

use std::path::Path;

use crate::error::ComponentError;
use crate::policy::StepReport;
use crate::records::{EvaluationRecord, IterationSummary};

/// A stage of an iteration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Writes visual contexts.
    Retrospect,
    /// Samples responses (rollouts).
    Respond,
    /// Judges the responses to each sample.
    Judge,
    /// Scores the pairs of datasets under the policy, which becomes their reference.
    Preferences,
    /// Scores additional completions under the reference policy, for objectives that require them.
    Reference,
    /// Trains on the preference pairs.
    Train,
    /// Evaluates on held-out samples.
    Evaluate,
}

impl Stage {
    /// Returns the lower-case name, as in journals, random streams and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retrospect => "retrospect",
            Self::Respond => "respond",
            Self::Judge => "judge",
            Self::Preferences => "preferences",
            Self::Reference => "reference",
            Self::Train => "train",
            Self::Evaluate => "evaluate",
        }
    }
}

/// An event of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run starts or resumes at `iteration`.
    RunStarted {
        /// Name of the run.
        run: &'a str,
        /// Run directory.
        dir: &'a Path,
        /// First incomplete iteration, from 1.
        iteration: u32,
        /// Total number of iterations.
        iterations: u32,
    },
    /// A stage starts or resumes.
    StageStarted {
        /// The iteration, from 1; 0 for the evaluation of the initial policy.
        iteration: u32,
        /// Stage of the iteration.
        stage: Stage,
        /// Items completed in earlier sessions. In training, optimiser steps.
        done: usize,
        /// Total number of items or steps.
        total: usize,
    },
    /// The result of one item was journalled.
    ItemDone {
        /// Stage of the iteration.
        stage: Stage,
    },
    /// A sample was quarantined.
    Quarantined {
        /// Stage of the iteration.
        stage: Stage,
        /// Id of the sample, or key of the video.
        subject: &'a str,
        /// Error message of the component.
        reason: &'a str,
    },
    /// One optimiser step was taken.
    TrainStep {
        /// The iteration, from 1.
        iteration: u32,
        /// Optimiser step within this iteration, from 0.
        step: u64,
        /// Loss, gradient norm and metrics.
        report: &'a StepReport,
    },
    /// A stage is complete.
    StageFinished {
        /// The iteration, from 1.
        iteration: u32,
        /// Stage of the iteration.
        stage: Stage,
        /// Wall-clock seconds spent in this session.
        seconds: f64,
        /// Seconds of these in which the policy's device had work; `None` if it is not measured.
        busy: Option<f64>,
    },
    /// A stage was divided among several processes. Sent before its `StageFinished`.
    StageDivided {
        /// The iteration, from 1.
        iteration: u32,
        /// Stage of the iteration.
        stage: Stage,
        /// Wall-clock seconds that each process worked before it waited for the others, by rank.
        seconds: &'a [f64],
    },
    /// The results of a stage came from the stage cache.
    StageShared {
        /// The iteration, from 1.
        iteration: u32,
        /// Stage of the iteration.
        stage: Stage,
        /// Wall-clock seconds that the stage took in the run that computed it.
        seconds: f64,
    },
    /// The initial policy was evaluated.
    BaseEvaluated {
        /// Means over the held-out samples.
        evaluation: &'a EvaluationRecord,
    },
    /// An iteration is complete.
    IterationFinished {
        /// The iteration's row of `summary.json`.
        summary: &'a IterationSummary,
    },
    /// All iterations are complete.
    RunFinished,
}

/// Receives the events of a run.
///
/// # Contract
/// Events arrive in order, from the task that drives the loop: an observer that blocks stalls the run. It
/// cannot influence the results.
pub trait Observer: Send + Sync {
    /// Handles one event.
    fn observe(&self, event: &Event<'_>);

    /// Waits until the events so far are handled, no longer than some seconds. Called when a run ends, for whatever
    /// reason, on a thread that may block. Default: nothing to wait for.
    ///
    /// # Errors
    /// The observer has failed, now or earlier, and handles no more events; or the time was too short.
    fn flush(&self) -> Result<(), ComponentError> {
        Ok(())
    }
}
