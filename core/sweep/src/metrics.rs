//! Metrics of a run by iteration, named as in [`isr_api::records::iteration_metrics`].

use isr_api::records::{Metrics, Summary, evaluation_metrics, iteration_metrics};

/// Metrics of the group `judge`.
pub(crate) const JUDGE_METRICS: [&str; 6] =
    ["verdicts", "ties", "agreement", "position_consistency", "longer_preferred", "margin"];
/// Metrics of the group `pairs`.
pub(crate) const PAIR_METRICS: [&str; 2] = ["kept", "dropped"];

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use isr_api::Fingerprint;
    use isr_api::records::{IterationSummary, JudgeSummary, PairSummary, TrainSummary};

    use super::*;

    #[test]
    fn the_groups_have_the_metrics_of_an_iteration() {
        let judge = JudgeSummary {
            verdicts: 1,
            agreement: Some(0.5),
            longer_preferred: Some(0.5),
            ..JudgeSummary::default()
        };
        let row = IterationSummary {
            iteration: 1,
            samples: 1,
            quarantined: BTreeMap::new(),
            policy: Fingerprint::of("before"),
            response_tokens: 1.0,
            reasoning: None,
            contexts: BTreeMap::new(),
            judge,
            pairs: PairSummary { kept: 1, dropped: BTreeMap::new(), from_data: 0 },
            training: TrainSummary::default(),
            evaluation: None,
        };
        let metrics = iteration_metrics(&row);
        let group = |name: &str| {
            let names = metrics.keys().filter_map(|metric| metric.strip_prefix(name)?.strip_prefix('.'));
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        fn sorted<'n>(names: &[&'n str]) -> Vec<&'n str> {
            let mut names = names.to_vec();
            names.sort_unstable();
            names
        }
        assert_eq!(group("judge"), sorted(&JUDGE_METRICS));
        assert_eq!(group("pairs"), sorted(&PAIR_METRICS));
    }
}
