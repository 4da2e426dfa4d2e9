//! Batches for the contract tests of objectives.

use isr_api::{Granularity, ObjectiveBatch, PreferenceObjective, View, ViewLogProbs};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Token log-probs of one answer under the policy and the reference.
pub(crate) type Answer = Vec<(f64, f64)>;
/// The answers to one prompt.
pub(crate) type Pair = [Answer; 2];

/// The batch that an objective requires of these pairs.
pub(crate) fn batch(objective: &dyn PreferenceObjective, pairs: &[Pair]) -> ObjectiveBatch {
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

/// The log-probs of a view; those of additional views are derived from chosen and rejected answer.
fn shown(pair: &Pair, view: View) -> Answer {
    let turned = |answer: &Answer| answer.iter().map(|&(policy, reference)| (reference, policy)).collect();
    match view {
        View::Chosen => pair[0].clone(),
        View::ChosenCorrupted => turned(&pair[0]),
        View::Mismatched => turned(&pair[1]),
        _ => pair[1].clone(),
    }
}

/// Pairs with ordinary log-probs, drawn with a seed.
pub(crate) fn ordinary(seed: u64, count: usize) -> Vec<Pair> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let mut answer = || -> Answer {
        let length = rng.random_range(1..6);
        let mut token = || {
            let policy = rng.random_range(-8.0..0.0);
            (policy, policy + rng.random_range(-3.0..3.0))
        };
        (0..length).map(|_| token()).collect()
    };
    (0..count).map(|_| [answer(), answer()]).collect()
}

/// Pairs with log-ratios of up to +-1e4, and with equal answers.
pub(crate) fn extremes() -> Vec<Vec<Pair>> {
    let one = |ratio: f64| vec![(-1e4 + ratio.min(0.0), -1e4 - ratio.max(0.0))];
    let of = |ratio: f64| vec![[one(ratio), one(0.0)], [one(0.0), one(ratio)]];
    [-1e4, -300.0, 0.0, 300.0, 1e4].map(of).to_vec()
}
