//! What every objective must hold for: finite differences, splitting, extremes. A new objective gets a
//! line in [`objectives`].

use std::sync::Arc;

use isr_api::{Granularity, Kind, ObjectiveBatch, ObjectiveValue, PreferenceObjective, View, ViewLogProbs};
use isr_config::registry::{Entry, entries};
use isr_testing::ObjectiveRules;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::config::build;

/// Settings beside those of every example and the defaults.
const MORE: [(&str, &str); 30] = [
    ("dpo", "beta = 0.01"),
    ("dpo", "beta = 2.0\nlabel_smoothing = 0.1"),
    ("dpo", "label_smoothing = 0.49"),
    ("dpo", "f_divergence_type = 'forward_kl'"),
    ("dpo", "f_divergence_type = 'js_divergence'"),
    ("dpo", "f_divergence_type = 'alpha_divergence'"),
    ("dpo", "f_divergence_type = 'alpha_divergence'\nf_alpha_divergence_coef = 1.7"),
    ("dpo", "ld_alpha = 0.3"),
    ("dpo", "wpo = true"),
    ("robust", "label_smoothing = 0.3"),
    ("exo_pair", "beta = 2.0\nlabel_smoothing = 0.2"),
    ("discopop", "beta = 0.5\ndiscopop_tau = 2.0"),
    ("ipo", "ld_alpha = 0.5\nf_divergence_type = 'js_divergence'"),
    ("ipo", "f_divergence_type = 'forward_kl'"),
    ("nca_pair", "ld_alpha = 0.0\nwpo = true"),
    ("anchor", "anchor = 1.5"),
    ("rdpo", "length_alpha = 0.5"),
    ("cpo", "loss_type = 'hinge'"),
    ("cpo", "loss_type = 'ipo'\ncpo_alpha = 0.5"),
    ("simpo", "alpha = 0.25\nlabel_smoothing = 0.1"),
    ("simpo", "alpha = -1.0\ncpo_alpha = 0.3"),
    ("aot", "label_smoothing = 0.1\nld_alpha = 0.5"),
    (
        "mix",
        "parts = [{ type = 'ipo', ld_alpha = 0.5 }, { type = 'cpo', weight = 0.5 }, { type = 'anchor' }]",
    ),
    ("mix", "parts = [{ type = 'mix' }, { type = 'orpo', weight = 0.5 }]"),
    ("copo", "beta = 2.0"),
    ("mdpo", "beta = 0.5\nanchor = 1.5"),
    ("d2po", "beta = 2.0\ngamma = 0.5"),
    ("kto", "beta = 1.0\ndesirable_weight = 1.5\nundesirable_weight = 0.5"),
    ("kto", "loss_type = 'apo_zero_unpaired'"),
    ("mix", "parts = [{ type = 'mdpo' }, { type = 'd2po' }, { type = 'kto', weight = 0.5 }]"),
];

/// One objective under test.
struct Subject {
    name: String,
    objective: Arc<dyn PreferenceObjective>,
}

impl Subject {
    fn new(name: &str, body: &str) -> Self {
        Self { name: format!("{name} {body}"), objective: build(name, body) }
    }

    /// Whether pairs weigh by a factor that has no gradient, which differences of the loss do not know.
    fn stops_gradients(&self) -> bool {
        self.name.contains("wpo = true")
    }

    /// Whether the pairs of a batch are looked at together.
    fn compares_pairs(&self) -> bool {
        self.objective.requirements().across_batch
    }

    /// Mismatched answers are an estimate of a constant.
    fn rules(&self) -> ObjectiveRules {
        ObjectiveRules {
            exact_gradient: !self.stops_gradients(),
            splits: !self.compares_pairs(),
            constant: vec![View::Mismatched],
        }
    }
}

/// Every objective, in a few settings.
fn objectives() -> Vec<Subject> {
    let kind = |entry: &&Entry| entry.kind == Kind::Objective;
    let all = entries().into_iter().filter(kind);
    let registered =
        all.flat_map(|entry| [Subject::new(entry.name, entry.example), Subject::new(entry.name, "")]);
    registered.chain(MORE.iter().map(|(name, body)| Subject::new(name, body))).collect()
}

/// One answer: log-probs of its tokens under the policy and the reference.
type Answer = Vec<(f64, f64)>;

/// A batch as a trainer would hand it over, from the answers of each pair.
fn batch(objective: &dyn PreferenceObjective, pairs: &[[Answer; 2]]) -> ObjectiveBatch {
    let wanted = objective.requirements();
    let view = |&view: &View| {
        let answers: Vec<Answer> = pairs.iter().map(|pair| shown(pair, view)).collect();
        let answers = answers.iter();
        let flatten = |part: fn(&(f64, f64)) -> f64| -> Vec<f64> {
            match wanted.granularity {
                Granularity::Summed => {
                    answers.clone().map(|answer| answer.iter().map(part).sum()).collect()
                }
                Granularity::PerToken => answers.clone().flatten().map(part).collect(),
            }
        };
        let reference = if wanted.reference { flatten(|token| token.1) } else { Vec::new() };
        let lengths = answers.clone().map(Vec::len).collect();
        ViewLogProbs { view, policy: flatten(|token| token.0), reference, lengths }
    };
    ObjectiveBatch { views: wanted.views.iter().map(view).collect() }
}

/// What a view shows of a pair. The further views have tokens of the first two, and other numbers.
fn shown(pair: &[Answer; 2], view: View) -> Answer {
    let turned = |answer: &Answer| answer.iter().map(|&(policy, reference)| (reference, policy)).collect();
    match view {
        View::Chosen => pair[0].clone(),
        View::ChosenCorrupted => turned(&pair[0]),
        View::Mismatched => turned(&pair[1]),
        _ => pair[1].clone(),
    }
}

/// The value, after checking its layout and that all of it is finite.
fn evaluate(
    objective: &dyn PreferenceObjective,
    batch: &ObjectiveBatch,
) -> Result<ObjectiveValue, TestCaseError> {
    let value = objective.evaluate(batch).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert_eq!(value.gradients.len(), batch.views.len());
    for (gradient, view) in value.gradients.iter().zip(&batch.views) {
        prop_assert_eq!(gradient.len(), view.policy.len());
    }
    let numbers = value.gradients.iter().flatten().chain(value.metrics.values()).chain([&value.loss]);
    for number in numbers {
        prop_assert!(number.is_finite(), "{value:?} of {batch:?}");
    }
    Ok(value)
}

/// Compares every entry of the gradient with differences of the loss on both sides.
fn check_gradient(
    objective: &dyn PreferenceObjective,
    batch: &ObjectiveBatch,
) -> Result<(), TestCaseError> {
    let value = evaluate(objective, batch)?;
    for (v, view) in batch.views.iter().enumerate() {
        if view.view == View::Mismatched {
            prop_assert!(value.gradients[v].iter().all(|&slope| slope == 0.0));
            continue;
        }
        for k in 0..view.policy.len() {
            let step = (1e-5 * view.policy[k].abs()).clamp(1e-5, 1e-3);
            let loss_at = |offset: f64| {
                let mut moved = batch.clone();
                moved.views[v].policy[k] += offset;
                evaluate(objective, &moved).map(|value| value.loss)
            };
            let (below, above) = (loss_at(-step)?, loss_at(step)?);
            let (left, right) = ((value.loss - below) / step, (above - value.loss) / step);
            let gradient = value.gradients[v][k];
            // The differences lose digits: rounding of the loss over the step, and the step squared.
            let largest = value.loss.abs().max(below.abs()).max(above.abs());
            let tolerance =
                1e-7 + 16.0 * f64::EPSILON * largest / step + 10.0 * step * step * (1.0 + gradient.abs());
            // At a kink, such as the hinge's, the gradient lies between the slopes of both sides.
            let (low, high) = (left.min(right) - tolerance, left.max(right) + tolerance);
            prop_assert!(
                low <= gradient && gradient <= high,
                "view {v}, entry {k}: gradient {gradient}, differences {left} and {right}, {batch:?}"
            );
        }
    }
    Ok(())
}

/// The value of a batch is the pair-weighted mean of the values of its parts.
fn check_splitting(
    objective: &dyn PreferenceObjective,
    pairs: &[[Answer; 2]],
    cut: usize,
) -> Result<(), TestCaseError> {
    let whole = evaluate(objective, &batch(objective, pairs))?;
    let (left, right) = pairs.split_at(cut);
    let parts = [left, right].map(|part| evaluate(objective, &batch(objective, part)));
    let [first, second] = parts;
    let (first, second) = (first?, second?);
    let share = left.len() as f64 / pairs.len() as f64;
    let close = |whole: f64, joined: f64| (whole - joined).abs() <= 1e-12 * whole.abs().max(1.0);
    prop_assert!(close(whole.loss, share * first.loss + (1.0 - share) * second.loss));
    for (name, &mean) in &whole.metrics {
        prop_assert!(
            close(mean, share * first.metrics[name] + (1.0 - share) * second.metrics[name]),
            "{name}"
        );
    }
    for (v, gradient) in whole.gradients.iter().enumerate() {
        let left = first.gradients[v].iter().map(|entry| entry * share);
        let right = second.gradients[v].iter().map(|entry| entry * (1.0 - share));
        for (&entry, joined) in gradient.iter().zip(left.chain(right)) {
            prop_assert!(close(entry, joined));
        }
    }
    Ok(())
}

fn answer(token: impl Strategy<Value = (f64, f64)>) -> impl Strategy<Value = Answer> {
    prop::collection::vec(token, 1..6)
}

fn pairs_of(
    token: impl Strategy<Value = (f64, f64)> + Clone,
    sizes: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<[Answer; 2]>> {
    prop::collection::vec([answer(token.clone()), answer(token)], sizes)
}

/// Log-probs as a model gives them.
fn ordinary() -> impl Strategy<Value = (f64, f64)> + Clone {
    (-8.0..0.0_f64, -3.0..3.0_f64).prop_map(|(policy, shift)| (policy, policy + shift))
}

/// Log-ratios up to 1e4, and exact zeros.
fn extreme() -> impl Strategy<Value = (f64, f64)> + Clone {
    let value = prop_oneof![Just(0.0), Just(-1e4), Just(1e4), -1e4..0.0_f64];
    (value.clone(), value)
}

/// Says which objective failed.
fn named<T>(subject: &Subject, outcome: Result<T, TestCaseError>) -> Result<T, TestCaseError> {
    outcome.map_err(|error| TestCaseError::fail(format!("{}: {error}", subject.name)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn gradients_are_those_of_finite_differences(pairs in pairs_of(ordinary(), 1..5)) {
        for subject in objectives().iter().filter(|subject| !subject.stops_gradients()) {
            let objective = subject.objective.as_ref();
            named(subject, check_gradient(objective, &batch(objective, &pairs)))?;
        }
    }

    #[test]
    fn values_are_finite_at_the_extremes(pairs in pairs_of(extreme(), 1..5)) {
        for subject in objectives() {
            let objective = subject.objective.as_ref();
            named(&subject, evaluate(objective, &batch(objective, &pairs)))?;
        }
    }

    #[test]
    fn a_batch_is_the_mean_of_its_parts(pairs in pairs_of(ordinary(), 2..8), cut in 1..8_usize) {
        let cut = cut.min(pairs.len() - 1);
        for subject in objectives().iter().filter(|subject| !subject.compares_pairs()) {
            named(subject, check_splitting(subject.objective.as_ref(), &pairs, cut))?;
        }
    }
}

#[test]
fn gradients_hold_at_the_extremes() {
    let one = |ratio: f64| vec![(-1e4 + ratio.min(0.0), -1e4 - ratio.max(0.0))];
    for Subject { name, objective } in objectives().into_iter().filter(|subject| !subject.stops_gradients())
    {
        for ratio in [-1e4, -300.0, 0.0, 300.0, 1e4] {
            let batch = batch(objective.as_ref(), &[[one(ratio), one(0.0)], [one(0.0), one(ratio)]]);
            if let Err(error) = check_gradient(objective.as_ref(), &batch) {
                panic!("{name} at {ratio}: {error}");
            }
        }
    }
}

#[test]
fn every_objective_keeps_the_contract_that_plugins_must_keep() {
    for subject in objectives() {
        let rules = subject.rules();
        assert_eq!(isr_testing::objective(subject.objective, &rules), [], "{}", subject.name);
    }
}
