//! Metrics of a run by iteration, named as in [`isr_api::records::iteration_metrics`].

use isr_api::records::{Metrics, Summary, evaluation_metrics, iteration_metrics};

/// One value of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The iteration; 0 is the starting model.
    pub iteration: u32,
    /// Name of the metric, such as `greedy.accuracy`.
    pub metric: String,
    /// The value; always finite.
    pub value: f64,
}

/// All finite metrics of a run, by iteration. Iteration 0 has those of the starting model's evaluation only.
pub fn figures(summary: &Summary) -> Vec<Figure> {
    let base = summary.base.iter().map(|evaluation| (0, evaluation_metrics(evaluation)));
    let rows = summary.iterations.iter().map(|row| (row.iteration, iteration_metrics(row)));
    base.chain(rows).flat_map(|(iteration, metrics)| finite(iteration, metrics)).collect()
}

fn finite(iteration: u32, metrics: Metrics) -> impl Iterator<Item = Figure> {
    let figures = metrics.into_iter().map(move |(metric, value)| Figure { iteration, metric, value });
    figures.filter(|figure| figure.value.is_finite())
}
