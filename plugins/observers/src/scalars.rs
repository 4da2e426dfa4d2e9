//! Scalars of events, and their names.

use std::collections::BTreeMap;

use isr_api::records::{EvaluationRecord, IterationSummary};
use isr_api::{Event, StepReport};

/// Scalars of one step of a series. The series `iterations` has iterations as steps; `iteration-NN` has the
/// optimizer steps of that iteration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalars {
    pub(crate) series: String,
    pub(crate) step: u64,
    /// Names and values.
    pub(crate) values: Vec<(String, f64)>,
}

impl Scalars {
    /// The scalars of an event; `None` if it has none.
    pub(crate) fn of(event: &Event<'_>) -> Option<Self> {
        let mut values = Values(Vec::new());
        let (series, step) = match event {
            Event::TrainStep { iteration, step, report } => {
                values.of_step(report);
                (format!("iteration-{iteration:02}"), *step)
            }
            Event::BaseEvaluated { evaluation } => {
                values.of_evaluation(evaluation);
                ("iterations".to_owned(), 0)
            }
            Event::IterationFinished { summary } => {
                values.of_iteration(summary);
                ("iterations".to_owned(), u64::from(summary.iteration))
            }
            _ => return None,
        };
        Some(Self { series, step, values: values.0 })
    }
}

struct Values(Vec<(String, f64)>);

impl Values {
    fn add(&mut self, name: &str, value: f64) {
        self.0.push((plain(name), value));
    }

    fn all(&mut self, group: &str, figures: &BTreeMap<String, f64>) {
        for (name, value) in figures {
            self.add(&format!("{group}/{}", name.replace('/', "_")), *value);
        }
    }

    fn of_step(&mut self, report: &StepReport) {
        self.add("train/loss", report.loss);
        self.add("train/grad_norm", report.grad_norm);
        self.add("train/tokens", report.tokens as f64);
        self.all("train", &report.metrics);
    }

    fn of_evaluation(&mut self, evaluation: &EvaluationRecord) {
        self.all("evaluation/greedy", &evaluation.greedy);
        self.all("evaluation/sampled", &evaluation.sampled);
    }

    fn of_iteration(&mut self, row: &IterationSummary) {
        self.add("samples", row.samples as f64);
        self.add("quarantined", row.quarantined.values().sum::<usize>() as f64);
        self.add("response_tokens", row.response_tokens);
        self.all("contexts", &row.contexts);
        let judge = &row.judge;
        self.add("judge/verdicts", judge.verdicts as f64);
        self.add("judge/position_consistency", judge.position_consistency);
        self.add("judge/margin", judge.margin);
        for (name, value) in [("agreement", judge.agreement), ("longer_preferred", judge.longer_preferred)]
        {
            if let Some(value) = value {
                self.add(&format!("judge/{name}"), value);
            }
        }
        self.add("pairs/kept", row.pairs.kept as f64);
        self.add("pairs/dropped", row.pairs.dropped.values().sum::<usize>() as f64);
        self.add("train/first_loss", row.training.first_loss);
        self.add("train/last_loss", row.training.last_loss);
        self.all("train", &row.training.metrics);
        if let Some(evaluation) = &row.evaluation {
            self.of_evaluation(evaluation);
        }
    }
}

/// The name with characters replaced that MLflow or a file system may refuse.
fn plain(name: &str) -> String {
    let taken = |c: char| c.is_ascii_alphanumeric() || "/_-".contains(c);
    name.chars().map(|c| if taken(c) { c } else { '_' }).collect()
}
