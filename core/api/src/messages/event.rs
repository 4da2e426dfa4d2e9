//! Events of a run as JSON.

use serde::Serialize;

use crate::observer::Event;
use crate::records::{
    EvaluationRecord, IterationSummary, Metrics, evaluation_metrics, iteration_metrics, step_metrics,
};

/// Parameters of `observe`: an event, and when it was. A number that is not finite, as the loss of a training that
/// diverged, is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ObserveMessage {
    /// Time of the event, in seconds since 1970-01-01 (UTC).
    pub time: f64,
    /// The event; flattened into this object.
    #[serde(flatten)]
    pub event: EventMessage,
}

/// An [`Event`] by its name in snake case.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventMessage {
    /// [`Event::RunStarted`].
    RunStarted {
        /// Name of the run.
        run: String,
        /// Run directory.
        dir: String,
        /// First incomplete iteration, from 1.
        iteration: u32,
        /// Total number of iterations.
        iterations: u32,
    },
    /// [`Event::StageStarted`].
    StageStarted {
        /// The iteration, from 1; 0 for the initial policy.
        iteration: u32,
        /// [`Stage::name`](crate::Stage::name).
        stage: &'static str,
        /// Items or steps that earlier sessions completed.
        done: usize,
        /// Items or steps in all.
        total: usize,
    },
    /// [`Event::ItemDone`], once or more.
    ItemDone {
        /// [`Stage::name`](crate::Stage::name).
        stage: &'static str,
        /// Number of items; more than 1 where the observer is slower than the run.
        count: u64,
    },
    /// [`Event::Quarantined`].
    Quarantined {
        /// [`Stage::name`](crate::Stage::name).
        stage: &'static str,
        /// Id of the sample, or key of the video.
        subject: String,
        /// Why.
        reason: String,
    },
    /// [`Event::TrainStep`].
    TrainStep {
        /// The iteration, from 1.
        iteration: u32,
        /// Optimiser step within the iteration, from 0.
        step: u64,
        /// [`step_metrics`]: `training.loss`, ...
        metrics: Metrics,
    },
    /// [`Event::StageFinished`].
    StageFinished {
        /// The iteration, from 1.
        iteration: u32,
        /// [`Stage::name`](crate::Stage::name).
        stage: &'static str,
        /// Wall-clock seconds of this session.
        seconds: f64,
        /// Seconds of these in which the policy's device had work; null if it is not measured.
        busy: Option<f64>,
    },
    /// [`Event::StageDivided`].
    StageDivided {
        /// The iteration, from 1.
        iteration: u32,
        /// [`Stage::name`](crate::Stage::name).
        stage: &'static str,
        /// Seconds that each process worked, by rank.
        seconds: Vec<f64>,
    },
    /// [`Event::StageShared`].
    StageShared {
        /// The iteration, from 1.
        iteration: u32,
        /// [`Stage::name`](crate::Stage::name).
        stage: &'static str,
        /// Wall-clock seconds of the run that computed it.
        seconds: f64,
    },
    /// [`Event::BaseEvaluated`].
    BaseEvaluated {
        /// `base` of `summary.json`.
        evaluation: EvaluationRecord,
        /// [`evaluation_metrics`]: `greedy.accuracy`, ...
        metrics: Metrics,
    },
    /// [`Event::IterationFinished`].
    IterationFinished {
        /// The iteration's row of `summary.json`.
        summary: Box<IterationSummary>,
        /// [`iteration_metrics`]: `greedy.accuracy`, `judge.agreement`, ...
        metrics: Metrics,
    },
    /// [`Event::RunFinished`].
    RunFinished,
}

impl From<&Event<'_>> for EventMessage {
    fn from(event: &Event<'_>) -> Self {
        match *event {
            Event::RunStarted { run, dir, iteration, iterations } => Self::RunStarted {
                run: run.to_owned(),
                dir: dir.to_string_lossy().into_owned(),
                iteration,
                iterations,
            },
            Event::StageStarted { iteration, stage, done, total } => {
                Self::StageStarted { iteration, stage: stage.name(), done, total }
            }
            Event::ItemDone { stage } => Self::ItemDone { stage: stage.name(), count: 1 },
            Event::Quarantined { stage, subject, reason } => Self::Quarantined {
                stage: stage.name(),
                subject: subject.to_owned(),
                reason: reason.to_owned(),
            },
            Event::TrainStep { iteration, step, report } => {
                Self::TrainStep { iteration, step, metrics: step_metrics(report) }
            }
            Event::StageFinished { iteration, stage, seconds, busy } => {
                Self::StageFinished { iteration, stage: stage.name(), seconds, busy }
            }
            Event::StageDivided { iteration, stage, seconds } => {
                Self::StageDivided { iteration, stage: stage.name(), seconds: seconds.to_vec() }
            }
            Event::StageShared { iteration, stage, seconds } => {
                Self::StageShared { iteration, stage: stage.name(), seconds }
            }
            Event::BaseEvaluated { evaluation } => Self::BaseEvaluated {
                evaluation: evaluation.clone(),
                metrics: evaluation_metrics(evaluation),
            },
            Event::IterationFinished { summary } => Self::IterationFinished {
                summary: Box::new(summary.clone()),
                metrics: iteration_metrics(summary),
            },
            Event::RunFinished => Self::RunFinished,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::observer::Stage;
    use crate::policy::StepReport;

    #[test]
    fn an_event_is_named_in_snake_case_and_what_is_not_finite_is_null() {
        let report = StepReport { loss: f64::NAN, grad_norm: 0.5, tokens: 3, metrics: BTreeMap::new() };
        let event = EventMessage::from(&Event::TrainStep { iteration: 1, step: 0, report: &report });
        let written = serde_json::to_value(ObserveMessage { time: 1.5, event }).unwrap();
        let metrics = json!({"training.loss": null, "training.grad_norm": 0.5, "training.tokens": 3.0});
        let expected =
            json!({"time": 1.5, "event": "train_step", "iteration": 1, "step": 0, "metrics": metrics});
        assert_eq!(written, expected);
        let done = EventMessage::from(&Event::ItemDone { stage: Stage::Judge });
        assert_eq!(
            serde_json::to_value(done).unwrap(),
            json!({"event": "item_done", "stage": "judge", "count": 1})
        );
        assert_eq!(
            serde_json::to_value(EventMessage::RunFinished).unwrap(),
            json!({"event": "run_finished"})
        );
    }
}
