//! Scalars that an event holds, and their tags.

use isr_api::Event;
use isr_api::records::{Metrics, evaluation_metrics, iteration_metrics, step_metrics};

/// Scalars of one step of one series. A series is `iterations`, whose steps are iterations, or
/// `iteration-NN`, whose steps are the optimiser's in that iteration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalars {
    pub(crate) series: String,
    pub(crate) step: u64,
    /// Tag and value.
    pub(crate) values: Vec<(String, f64)>,
}

impl Scalars {
    /// Scalars to be recorded of an event; `None` for an event without any.
    pub(crate) fn of(event: &Event<'_>) -> Option<Self> {
        let (series, step, metrics) = match event {
            Event::TrainStep { iteration, step, report } => {
                (format!("iteration-{iteration:02}"), *step, step_metrics(report))
            }
            Event::BaseEvaluated { evaluation } => {
                ("iterations".to_owned(), 0, evaluation_metrics(evaluation))
            }
            Event::IterationFinished { summary } => {
                ("iterations".to_owned(), u64::from(summary.iteration), iteration_metrics(summary))
            }
            _ => return None,
        };
        Some(Self { series, step, values: tagged(metrics) })
    }
}

fn tagged(metrics: Metrics) -> Vec<(String, f64)> {
    metrics.into_iter().map(|(name, value)| (tag(&name), value)).collect()
}

/// The tag of a metric: `greedy/accuracy` for `greedy.accuracy`. Characters of an evaluator's or objective's own
/// name that MLflow or a file system would not take become `_`.
fn tag(name: &str) -> String {
    let plain = |text: &str| -> String {
        let taken = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        text.chars().map(|c| if taken(c) { c } else { '_' }).collect()
    };
    match name.split_once('.') {
        Some((group, name)) => format!("{}/{}", plain(group), plain(name)),
        None => plain(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_the_metric_with_a_slash_behind_its_group() {
        for (name, expected) in [
            ("greedy.accuracy", "greedy/accuracy"),
            ("samples", "samples"),
            ("greedy.a/b.c d", "greedy/a_b_c_d"),
        ] {
            assert_eq!(tag(name), expected);
        }
    }
}
