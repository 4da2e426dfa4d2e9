//! The figures of a run by iteration, under the names that `sweep.json` and `metrics.parquet` give them.

use std::collections::BTreeMap;

use isr_api::records::{EvaluationRecord, IterationSummary, Summary};

/// A figure of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The iteration; 0 is the starting model.
    pub iteration: u32,
    /// The metric.
    pub metric: String,
    /// Its value, finite.
    pub value: f64,
}

/// All figures of a run, by iteration.
pub fn figures(summary: &Summary) -> Vec<Figure> {
    let mut figures = Figures::default();
    if let Some(base) = &summary.base {
        figures.evaluation(0, base);
    }
    summary.iterations.iter().for_each(|row| figures.iteration(row));
    figures.0
}

#[derive(Default)]
struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, iteration: u32, metric: impl Into<String>, value: f64) {
        if value.is_finite() {
            self.0.push(Figure { iteration, metric: metric.into(), value });
        }
    }

    fn all(&mut self, iteration: u32, group: &str, values: &BTreeMap<String, f64>) {
        values.iter().for_each(|(name, &value)| self.add(iteration, format!("{group}.{name}"), value));
    }

    fn evaluation(&mut self, iteration: u32, record: &EvaluationRecord) {
        self.all(iteration, "greedy", &record.greedy);
        self.all(iteration, "sampled", &record.sampled);
    }

    fn iteration(&mut self, row: &IterationSummary) {
        let t = row.iteration;
        if let Some(evaluation) = &row.evaluation {
            self.evaluation(t, evaluation);
        }
        self.all(t, "contexts", &row.contexts);
        let judge = &row.judge;
        let optional = [("agreement", judge.agreement), ("longer_preferred", judge.longer_preferred)];
        for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            self.add(t, format!("judge.{name}"), value);
        }
        if judge.verdicts > 0 {
            self.add(t, "judge.position_consistency", judge.position_consistency);
            self.add(t, "judge.margin", judge.margin);
        }
        self.add(t, "pairs.kept", row.pairs.kept as f64);
        self.add(t, "responses.tokens", row.response_tokens);
        self.all(t, "training", &row.training.metrics);
        self.add(t, "training.first_loss", row.training.first_loss);
        self.add(t, "training.last_loss", row.training.last_loss);
        self.add(t, "training.grad_norm", row.training.grad_norm);
    }
}
