//! What came of a run, in a sentence: the change of one metric on held-out samples, and whether it is more than noise.

use std::collections::{BTreeSet, HashMap};

use isr_api::records::{EvaluationRecord, evaluation_metrics};

use crate::interval::mean_interval;
use crate::report::format::{Unit, binomial_error, count, counted, words};
use crate::report::run::Run;

/// Metrics in the order in which one is chosen; any other comes before the length of the response.
const FIRST: [&str; 2] = ["accuracy", "hallucination"];
const LAST: &str = "response_tokens";

/// The change of a metric, with its 95% interval where one is known.
struct Change {
    base: f64,
    last: f64,
    samples: usize,
    interval: Option<[f64; 2]>,
}

/// What came of a run.
pub(crate) fn sentence(run: &Run) -> String {
    let trained = run.summaries.len();
    if trained == 0 {
        return "No iteration is complete yet.".to_owned();
    }
    let after = format!("After {}", counted(trained, "iteration"));
    let Some((iteration, evaluation)) = run.last_evaluation() else {
        return format!(
            "{after}: the model was not measured on held-out samples, so what it gained is unknown."
        );
    };
    let Some((metric, change)) = measured(run, iteration, evaluation) else {
        return format!(
            "{after}: starting and last model have no metric in common, so what it gained is unknown."
        );
    };
    let unit = Unit::of_metric(&metric);
    let [base, last] = [change.base, change.last].map(|value| unit.format(value));
    let difference = change.last - change.base;
    let samples = format!("{} held-out samples", count(change.samples));
    let moved = match difference {
        0.0 => format!("stayed at {last}"),
        _ => {
            let way = if difference > 0.0 { "rose" } else { "fell" };
            format!("{way} from {base} to {last} ({})", unit.format_change(difference))
        }
    };
    let noise = match change.interval {
        Some([low, high]) => {
            let ends = format!("{} to {}", unit.format_change(low), unit.format_change(high));
            let verdict = if low > 0.0 || high < 0.0 { "more than" } else { "within" };
            format!("{verdict} the noise of these samples (95% interval of the change: {ends})")
        }
        None => "how much of that is noise is unknown".to_owned(),
    };
    format!("{after}, the {} of greedy answers to {samples} {moved}: {noise}.", words(&metric))
}

/// The metric that the sentence is about, with its change.
fn measured(run: &Run, iteration: u32, last: &EvaluationRecord) -> Option<(String, Change)> {
    let base = run.base.as_ref()?;
    let common: BTreeSet<&String> =
        last.greedy.keys().filter(|name| base.greedy.contains_key(*name)).collect();
    let known =
        FIRST.into_iter().find(|name| common.iter().any(|metric| metric == name)).map(str::to_owned);
    let other = || common.iter().find(|name| name.as_str() != LAST).map(|name| (*name).clone());
    let length = || common.iter().find(|name| name.as_str() == LAST).map(|name| (*name).clone());
    let metric = known.or_else(other).or_else(length)?;
    // Where answers are missing from the journal, the means are of other samples than those that can be paired.
    let whole = |change: &Change| change.samples == last.samples;
    let change = paired(run, iteration, &metric).filter(whole).or_else(|| unpaired(base, last, &metric))?;
    Some((metric, change))
}

/// The change on the samples that both models answered: a paired comparison, sample by sample.
fn paired(run: &Run, iteration: u32, metric: &str) -> Option<Change> {
    let held_out = run.held_out.as_ref().filter(|held_out| held_out.iteration == iteration)?;
    let value =
        |metrics: &std::collections::BTreeMap<String, Option<f64>>| metrics.get(metric).copied().flatten();
    let before: HashMap<_, f64> = held_out
        .base
        .iter()
        .filter_map(|line| Some((&line.sample, value(&line.greedy_metrics)?)))
        .collect();
    let pairs = held_out
        .last
        .iter()
        .filter_map(|line| Some((*before.get(&line.sample)?, value(&line.greedy_metrics)?)));
    let pairs: Vec<(f64, f64)> =
        pairs.filter(|(base, last)| base.is_finite() && last.is_finite()).collect();
    let samples = pairs.len();
    let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / samples as f64;
    let differences: Vec<f64> = pairs.iter().map(|(base, last)| last - base).collect();
    let interval = mean_interval(&differences);
    (samples > 1).then(|| Change {
        base: mean(|pair| pair.0),
        last: mean(|pair| pair.1),
        samples,
        interval,
    })
}

/// The change of the means; its interval is that of independent shares, and unknown for other metrics.
fn unpaired(base: &EvaluationRecord, last: &EvaluationRecord, metric: &str) -> Option<Change> {
    let read = |evaluation: &EvaluationRecord| {
        let value = *evaluation_metrics(evaluation).get(&format!("greedy.{metric}"))?;
        value.is_finite().then_some((value, evaluation.samples))
    };
    let ((before, base_n), (after, samples)) = (read(base)?, read(last)?);
    let rate = Unit::of_metric(metric).is_rate();
    let errors = binomial_error(before, base_n).zip(binomial_error(after, samples)).filter(|_| rate);
    let interval = errors.map(|(one, other)| {
        let half = 1.96 * one.hypot(other);
        [after - before - half, after - before + half]
    });
    Some(Change { base: before, last: after, samples, interval })
}
