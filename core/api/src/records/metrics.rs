//! Names of a run's metrics.
//!
//! A metric has one name wherever it appears: in `sweep.json`, in `halving.metric` of a sweep file, in reports, and, with
//! `/` for `.`, as a TensorBoard tag or MLflow metric. The part before the `.` is the group.
//!
//! | group | metrics |
//! |---|---|
//! | (none) | `samples`, `quarantined` |
//! | `greedy`, `sampled` | the evaluator's, on held-out samples |
//! | `contexts` | the evaluator's, on visual contexts |
//! | `judge` | `verdicts`, `ties`, `agreement`, `position_consistency`, `longer_preferred`, `margin` |
//! | `pairs` | `kept`, `dropped` |
//! | `responses` | `tokens`; of responses that reason `reasoning_tokens`, and `unanswered`, the number without an answer |
//! | `training` | of an iteration: `first_loss`, `last_loss`, `grad_norm`, and the objective's; of a step: `loss`, `grad_norm`, `tokens`, and the objective's |

use std::collections::BTreeMap;

use super::{EvaluationRecord, IterationSummary};
use crate::policy::StepReport;

/// Metric values by name. Values may be NaN or infinite where a training diverged.
pub type Metrics = BTreeMap<String, f64>;

/// Metrics of one optimiser step, in the group `training`.
pub fn step_metrics(report: &StepReport) -> Metrics {
    let mut metrics = Metrics::new();
    group(&mut metrics, "training", &report.metrics);
    add(&mut metrics, "training.loss", report.loss);
    add(&mut metrics, "training.grad_norm", report.grad_norm);
    add(&mut metrics, "training.tokens", report.tokens as f64);
    metrics
}

/// Metrics of one evaluation on held-out samples, in the groups `greedy` and `sampled`.
pub fn evaluation_metrics(evaluation: &EvaluationRecord) -> Metrics {
    let mut metrics = Metrics::new();
    group(&mut metrics, "greedy", &evaluation.greedy);
    group(&mut metrics, "sampled", &evaluation.sampled);
    metrics
}

/// Metrics of one completed iteration, its evaluation included. Optional metrics that were not measured are absent, as are
/// `judge.ties`, `judge.position_consistency` and `judge.margin` of an iteration without verdicts.
pub fn iteration_metrics(row: &IterationSummary) -> Metrics {
    let IterationSummary { judge, pairs, training, .. } = row;
    let mut metrics = row.evaluation.as_ref().map(evaluation_metrics).unwrap_or_default();
    add(&mut metrics, "samples", row.samples as f64);
    add(&mut metrics, "quarantined", row.quarantined.values().sum::<usize>() as f64);
    add(&mut metrics, "responses.tokens", row.response_tokens);
    if let Some(reasoning) = &row.reasoning {
        add(&mut metrics, "responses.reasoning_tokens", reasoning.tokens);
        add(&mut metrics, "responses.unanswered", reasoning.unanswered as f64);
    }
    group(&mut metrics, "contexts", &row.contexts);
    add(&mut metrics, "judge.verdicts", judge.verdicts as f64);
    let measured = (judge.verdicts > 0).then_some(judge);
    let optional = [
        ("judge.ties", measured.map(|judge| judge.ties as f64)),
        ("judge.agreement", judge.agreement),
        ("judge.longer_preferred", judge.longer_preferred),
        ("judge.position_consistency", measured.map(|judge| judge.position_consistency)),
        ("judge.margin", measured.map(|judge| judge.margin)),
    ];
    for (name, value) in optional {
        value.into_iter().for_each(|value| add(&mut metrics, name, value));
    }
    add(&mut metrics, "pairs.kept", pairs.kept as f64);
    add(&mut metrics, "pairs.dropped", pairs.dropped.values().sum::<usize>() as f64);
    group(&mut metrics, "training", &training.metrics);
    add(&mut metrics, "training.first_loss", training.first_loss);
    add(&mut metrics, "training.last_loss", training.last_loss);
    add(&mut metrics, "training.grad_norm", training.grad_norm);
    metrics
}

fn add(metrics: &mut Metrics, name: &str, value: f64) {
    metrics.insert(name.to_owned(), value);
}

fn group(metrics: &mut Metrics, group: &str, values: &BTreeMap<String, f64>) {
    metrics.extend(values.iter().map(|(name, &value)| (format!("{group}.{name}"), value)));
}

#[cfg(test)]
mod tests {
    use super::super::{JudgeSummary, PairSummary, TrainSummary};
    use super::*;
    use crate::fingerprint::Fingerprint;

    fn row(judge: JudgeSummary) -> IterationSummary {
        let evaluation = EvaluationRecord {
            samples: 4,
            quarantined: 0,
            policy: Fingerprint::of("after"),
            greedy: BTreeMap::from([("accuracy".to_owned(), 0.75)]),
            sampled: BTreeMap::from([("accuracy".to_owned(), 0.5)]),
        };
        IterationSummary {
            iteration: 1,
            samples: 10,
            quarantined: BTreeMap::from([("respond".to_owned(), 1), ("judge".to_owned(), 2)]),
            policy: Fingerprint::of("before"),
            response_tokens: 12.5,
            reasoning: None,
            contexts: BTreeMap::from([("accuracy".to_owned(), 0.25)]),
            judge,
            pairs: PairSummary {
                kept: 5,
                dropped: BTreeMap::from([("inconsistent".to_owned(), 2)]),
                from_data: 0,
            },
            training: TrainSummary {
                metrics: BTreeMap::from([("reward_margin".to_owned(), 0.1)]),
                ..TrainSummary::default()
            },
            evaluation: Some(evaluation),
        }
    }

    #[test]
    fn an_iteration_has_every_group() {
        let judge =
            JudgeSummary { verdicts: 7, agreement: Some(0.9), margin: 0.2, ..JudgeSummary::default() };
        let metrics = iteration_metrics(&row(judge));
        for (name, value) in [
            ("samples", 10.0),
            ("quarantined", 3.0),
            ("greedy.accuracy", 0.75),
            ("sampled.accuracy", 0.5),
            ("contexts.accuracy", 0.25),
            ("judge.verdicts", 7.0),
            ("judge.ties", 0.0),
            ("judge.agreement", 0.9),
            ("judge.position_consistency", 0.0),
            ("judge.margin", 0.2),
            ("pairs.kept", 5.0),
            ("pairs.dropped", 2.0),
            ("responses.tokens", 12.5),
            ("training.reward_margin", 0.1),
            ("training.first_loss", 0.0),
            ("training.last_loss", 0.0),
            ("training.grad_norm", 0.0),
        ] {
            assert_eq!(metrics.get(name), Some(&value), "{name}");
        }
        assert_eq!(metrics.len(), 17, "{metrics:?}");
    }

    #[test]
    fn figures_of_a_judge_without_verdicts_are_absent() {
        let metrics = iteration_metrics(&row(JudgeSummary::default()));
        let judge: Vec<_> = metrics.keys().filter(|name| name.starts_with("judge.")).collect();
        assert_eq!(judge, ["judge.verdicts"]);
    }
}
