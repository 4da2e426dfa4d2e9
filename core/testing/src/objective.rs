//! Contract tests of objectives.

use std::sync::Arc;

use isr_api::{ObjectiveBatch, ObjectiveValue, PreferenceObjective, View};

use crate::call::{Outcome, call_now};
use crate::finding::{Failure, Findings};
use crate::objective_batches::{Pair, batch, extremes, ordinary};

/// Batches of each kind.
const BATCHES: u64 = 24;

/// Parameters of the suite for objectives.
#[derive(Clone, Debug)]
pub struct ObjectiveRules {
    /// Whether the gradient is the exact derivative of the loss. False for losses with a stop-gradient factor.
    /// Default true.
    pub exact_gradient: bool,
    /// Whether the loss of a batch is the weighted mean of the losses of its parts. Ignored for losses that compare
    /// across the batch by their requirements. Default true.
    pub splits: bool,
    /// Views with stop-gradient: the loss depends on them, but their gradient must be 0. Default none.
    pub constant: Vec<View>,
}

impl Default for ObjectiveRules {
    fn default() -> Self {
        Self { exact_gradient: true, splits: true, constant: Vec::new() }
    }
}

/// Tests an objective against its contract.
///
/// | rule | requirement |
/// |---|---|
/// | `requirements` | at least one view, no duplicates, constant |
/// | `layout` | one gradient per view, with one entry per log-prob |
/// | `finite` | loss, gradients and metrics are finite, log-ratios of +-1e4 included |
/// | `gradient` | gradients agree with finite differences of the loss |
/// | `mean` | the value of a batch is the mean of the values of its parts, weighted by their pairs |
/// | `pure` | the same batch gives the same value |
/// | `errors` | no panic; a missing view or inconsistent lengths are errors |
pub fn objective(objective: Arc<dyn PreferenceObjective>, rules: &ObjectiveRules) -> Vec<Failure> {
    let mut findings = Findings::default();
    let objective = &objective;
    check_requirements(objective, &mut findings);
    let splits = rules.splits && !objective.requirements().across_batch;
    for seed in 0..BATCHES {
        let pairs = ordinary(seed, 2 + seed as usize % 5);
        check_pure(objective, &batch(objective.as_ref(), &pairs), &mut findings);
        // What fails for a batch that fits fails for others; and a hanging call may take a minute.
        if findings.hung() || findings.breaks("errors") {
            return findings.done();
        }
        if rules.exact_gradient {
            check_gradient(objective, &batch(objective.as_ref(), &pairs), &rules.constant, &mut findings);
        }
        if splits {
            check_mean(objective, &pairs, 1 + seed as usize % (pairs.len() - 1), &mut findings);
        }
    }
    for pairs in extremes() {
        let batch = batch(objective.as_ref(), &pairs);
        evaluate(objective, &batch, &mut findings);
        if rules.exact_gradient {
            check_gradient(objective, &batch, &rules.constant, &mut findings);
        }
    }
    check_hostile(objective, &mut findings);
    findings.done()
}

fn check_requirements(objective: &Arc<dyn PreferenceObjective>, findings: &mut Findings) {
    let wanted = objective.requirements();
    let mut views = wanted.views.clone();
    views.sort();
    views.dedup();
    findings.require(!views.is_empty() && views.len() == wanted.views.len(), "requirements", || {
        format!("its views are {:?}; at least one, and none twice", wanted.views)
    });
    let now = objective.requirements();
    findings.require(now == wanted, "requirements", || format!("they were {wanted:?} and are {now:?}"));
}

/// Evaluates a batch and checks that the value has the right layout and is finite.
fn evaluate(
    objective: &Arc<dyn PreferenceObjective>,
    batch: &ObjectiveBatch,
    findings: &mut Findings,
) -> Option<ObjectiveValue> {
    if findings.hung() {
        return None;
    }
    let outcome = evaluated(objective, batch);
    let value = outcome.value(findings, "a batch that fits")?;
    let wanted: Vec<usize> = batch.views.iter().map(|view| view.policy.len()).collect();
    let got: Vec<usize> = value.gradients.iter().map(Vec::len).collect();
    if wanted != got {
        let found = format!("gradients have {got:?} numbers for {wanted:?} log-probs of the views");
        findings.note("layout", found);
        return None;
    }
    let numbers = value.gradients.iter().flatten().chain(value.metrics.values()).chain([&value.loss]);
    if numbers.into_iter().any(|number| !number.is_finite()) {
        findings.note("finite", format!("{value:?} of {batch:?}"));
        return None;
    }
    Some(value)
}

fn evaluated(objective: &Arc<dyn PreferenceObjective>, batch: &ObjectiveBatch) -> Outcome<ObjectiveValue> {
    let (objective, batch) = (Arc::clone(objective), batch.clone());
    call_now(move || objective.evaluate(&batch))
}

fn check_pure(objective: &Arc<dyn PreferenceObjective>, batch: &ObjectiveBatch, findings: &mut Findings) {
    let first = evaluate(objective, batch, findings);
    let again = evaluate(objective, batch, findings);
    findings.require(first == again, "pure", || format!("one batch gave {first:?} and then {again:?}"));
}

/// Compares every entry of the gradient with one-sided differences of the loss.
fn check_gradient(
    objective: &Arc<dyn PreferenceObjective>,
    batch: &ObjectiveBatch,
    constant: &[View],
    findings: &mut Findings,
) {
    let Some(value) = evaluate(objective, batch, findings) else { return };
    for (v, view) in batch.views.iter().enumerate() {
        if constant.contains(&view.view) {
            findings.require(value.gradients[v].iter().all(|&slope| slope == 0.0), "gradient", || {
                format!("by {:?}, which is a constant, it is {:?}", view.view, value.gradients[v])
            });
            continue;
        }
        for (k, logprob) in view.policy.iter().enumerate() {
            let step = (1e-5 * logprob.abs()).clamp(1e-5, 1e-3);
            let mut loss_at = |offset: f64| {
                let mut moved = batch.clone();
                moved.views[v].policy[k] += offset;
                evaluate(objective, &moved, findings).map(|value| value.loss)
            };
            let (Some(below), Some(above)) = (loss_at(-step), loss_at(step)) else { return };
            let (left, right) = ((value.loss - below) / step, (above - value.loss) / step);
            let gradient = value.gradients[v][k];
            // Error of the differences: rounding of the loss over the step, plus the step squared.
            let largest = value.loss.abs().max(below.abs()).max(above.abs());
            let tolerance =
                1e-7 + 16.0 * f64::EPSILON * largest / step + 10.0 * step * step * (1.0 + gradient.abs());
            // At a kink the gradient lies between the one-sided derivatives.
            let (low, high) = (left.min(right) - tolerance, left.max(right) + tolerance);
            findings.require((low..=high).contains(&gradient), "gradient", || {
                format!(
                    "by {:?}, entry {k}: it is {gradient}, differences of the loss are {left} and {right}",
                    view.view
                )
            });
        }
    }
}

/// The value of a batch is the mean of the values of its parts, weighed by their pairs.
fn check_mean(
    objective: &Arc<dyn PreferenceObjective>,
    pairs: &[Pair],
    cut: usize,
    findings: &mut Findings,
) {
    let (left, right) = pairs.split_at(cut);
    let mut value = |pairs: &[Pair]| evaluate(objective, &batch(objective.as_ref(), pairs), findings);
    let (Some(whole), Some(first), Some(second)) = (value(pairs), value(left), value(right)) else {
        return;
    };
    let share = left.len() as f64 / pairs.len() as f64;
    let mean = |one: f64, other: f64| share * one + (1.0 - share) * other;
    let close = |one: f64, other: f64| (one - other).abs() <= 1e-9 * one.abs().max(1.0);
    let joined = mean(first.loss, second.loss);
    findings.require(close(whole.loss, joined), "mean", || {
        format!("the loss of a batch is {}, the mean of its parts' is {joined}", whole.loss)
    });
    for (v, gradient) in whole.gradients.iter().enumerate() {
        let left = first.gradients[v].iter().map(|entry| entry * share);
        let right = second.gradients[v].iter().map(|entry| entry * (1.0 - share));
        let holds = gradient.iter().zip(left.chain(right)).all(|(&entry, joined)| close(entry, joined));
        findings.require(holds, "mean", || "gradients of a batch are not those of its parts".to_owned());
    }
    for (name, &value) in &whole.metrics {
        let parts = (first.metrics.get(name), second.metrics.get(name));
        let holds = matches!(parts, (Some(&one), Some(&other)) if close(value, mean(one, other)));
        findings.require(holds, "mean", || format!("the metric `{name}` is not the mean of the parts'"));
    }
}

fn check_hostile(objective: &Arc<dyn PreferenceObjective>, findings: &mut Findings) {
    let whole = batch(objective.as_ref(), &ordinary(0, 3));
    let mut batches = vec![("without views", ObjectiveBatch { views: Vec::new() })];
    for index in 0..whole.views.len() {
        let mut fewer = whole.clone();
        fewer.views.remove(index);
        batches.push(("without one view", fewer));
        let mut short = whole.clone();
        short.views[index].policy.pop();
        batches.push(("that lacks a log-prob", short));
        let mut unknown = whole.clone();
        if unknown.views[index].reference.pop().is_some() {
            batches.push(("that lacks a reference's log-prob", unknown));
        }
    }
    for (what, batch) in batches {
        match evaluated(objective, &batch) {
            Outcome::Panicked(text) => {
                findings.note("errors", format!("a batch {what} made it panic with \"{text}\""));
            }
            Outcome::Returned(value) => {
                findings.note("errors", format!("a batch {what} got a value: {value:?}"));
            }
            _ => {}
        }
    }
}
