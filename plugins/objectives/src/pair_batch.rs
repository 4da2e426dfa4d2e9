//! A batch reduced to one log-prob per completion, and the gradient back to the batch's layout.

use isr_api::{ComponentError, Granularity, ObjectiveBatch, View, ViewLogProbs};

use crate::batch::{checked, expect_tokens, gradients};
use crate::spec::LossSpec;

/// One completion per pair: all chosen ones, or all rejected ones.
#[derive(Clone, Debug)]
pub(crate) struct Completions {
    /// Reduced log-probs under the policy, in nats; one per pair.
    pub(crate) policy: Vec<f64>,
    /// Reduced log-probs under the reference, in nats; one per pair, 0 without a reference.
    pub(crate) reference: Vec<f64>,
    /// Number of tokens; one per pair.
    pub(crate) lengths: Vec<usize>,
    /// Unweighted sums of the policy's log-probs; one per pair.
    sums: Vec<f64>,
    /// Weight of each token, pair after pair; empty where the batch has sums.
    token_weights: Vec<f64>,
}

/// A batch of pairs, reduced as a [`LossSpec`] says.
#[derive(Clone, Debug)]
pub(crate) struct PairBatch {
    /// The preferred completions.
    pub(crate) chosen: Completions,
    /// The completions that they are compared with: those of [`LossSpec::against`].
    pub(crate) rejected: Completions,
    against: View,
}

impl PairBatch {
    /// Checks and reduces a batch.
    ///
    /// # Errors
    /// A missing view, slices of the wrong length, values that are no log-probs, or a completion without
    /// tokens.
    pub(crate) fn new(batch: &ObjectiveBatch, spec: &LossSpec) -> Result<Self, ComponentError> {
        let granularity = spec.granularity();
        let read = |view| -> Result<&ViewLogProbs, ComponentError> {
            let found = checked(batch, view, granularity, spec.reference)?;
            expect_tokens(view, &found.lengths)?;
            Ok(found)
        };
        let (chosen, rejected) = (read(View::Chosen)?, read(spec.against)?);
        Ok(Self {
            chosen: Completions::new(chosen, rejected, spec),
            rejected: Completions::new(rejected, chosen, spec),
            against: spec.against,
        })
    }

    /// Number of pairs.
    pub(crate) fn pairs(&self) -> usize {
        self.chosen.policy.len()
    }

    /// WPO's weight of a pair: the product of both completions' mean token probabilities (arXiv 2406.11827,
    /// equation 2). Means above 0 are clamped to 0.
    pub(crate) fn weight(&self, pair: usize) -> f64 {
        let mean = |completions: &Completions| completions.sums[pair] / completions.lengths[pair] as f64;
        (mean(&self.chosen).min(0.0) + mean(&self.rejected).min(0.0)).exp()
    }

    /// Gradients in the batch's layout, from the loss's derivatives by the reduced log-probs.
    pub(crate) fn gradients(
        &self,
        batch: &ObjectiveBatch,
        by_chosen: &[f64],
        by_rejected: &[f64],
    ) -> Vec<Vec<f64>> {
        let chosen = (View::Chosen, self.chosen.broadcast_to_tokens(by_chosen));
        gradients(batch, [chosen, (self.against, self.rejected.broadcast_to_tokens(by_rejected))])
    }

    /// Training metrics with one value per pair.
    pub(crate) fn metrics(&self, spec: &LossSpec) -> [(&'static str, Vec<f64>); 6] {
        let (wins, losses) = (self.chosen.rewards(spec), self.rejected.rewards(spec));
        let margins: Vec<f64> = wins.iter().zip(&losses).map(|(win, loss)| win - loss).collect();
        let accuracy = margins.iter().map(|&margin| f64::from(u8::from(margin > 0.0))).collect();
        // A `mix` logs pairs with rejected answers and pairs with corrupted videos side by side.
        let names = match self.against {
            View::ChosenCorrupted => {
                ["corrupted_reward", "conditional_margin", "conditional_accuracy", "logps_corrupted"]
            }
            _ => ["rejected_reward", "reward_margin", "accuracy", "logps_rejected"],
        };
        [
            ("chosen_reward", wins),
            (names[0], losses),
            (names[1], margins),
            (names[2], accuracy),
            ("logps_chosen", self.chosen.policy.clone()),
            (names[3], self.rejected.policy.clone()),
        ]
    }
}

impl Completions {
    fn new(view: &ViewLogProbs, other: &ViewLogProbs, spec: &LossSpec) -> Self {
        let lengths = view.lengths.clone();
        let granularity = spec.granularity();
        let token_weights = match granularity {
            Granularity::Summed => Vec::new(),
            Granularity::PerToken => {
                let both = lengths.iter().zip(&other.lengths);
                both.flat_map(|(&own, &other)| token_weights(own, other, spec)).collect()
            }
        };
        let plain = vec![1.0; view.policy.len()];
        let reference = match spec.reference {
            true => weighted(&view.reference, &token_weights, &lengths, granularity),
            false => vec![0.0; lengths.len()],
        };
        Self {
            policy: weighted(&view.policy, &token_weights, &lengths, granularity),
            reference,
            sums: weighted(&view.policy, &plain, &lengths, granularity),
            lengths,
            token_weights,
        }
    }

    /// Rewards: beta times the log-ratio, or times the log-prob without a reference.
    fn rewards(&self, spec: &LossSpec) -> Vec<f64> {
        let ratios = self.policy.iter().zip(&self.reference).zip(&self.lengths);
        let reward = |((policy, reference), &length): ((&f64, &f64), &usize)| {
            let tokens = if spec.per_token_rewards { length as f64 } else { 1.0 };
            spec.beta * (policy - reference) / tokens
        };
        ratios.map(reward).collect()
    }

    /// Derivatives by token log-probs from derivatives by reduced log-probs; unchanged where the batch has
    /// sums.
    fn broadcast_to_tokens(&self, slopes: &[f64]) -> Vec<f64> {
        if self.token_weights.is_empty() {
            return slopes.to_vec();
        }
        let each = slopes.iter().zip(&self.lengths);
        let by_token = each.flat_map(|(&slope, &length)| std::iter::repeat_n(slope, length));
        by_token.zip(&self.token_weights).map(|(slope, weight)| slope * weight).collect()
    }
}

/// Token weights `gamma^t`, times `ld_alpha` past the length of the other completion.
fn token_weights(length: usize, other: usize, spec: &LossSpec) -> impl Iterator<Item = f64> + use<> {
    let (alpha, gamma) = (spec.ld_alpha.unwrap_or(1.0), spec.gamma.unwrap_or(1.0));
    let decay = std::iter::successors(Some(1.0), move |weight| Some(weight * gamma)).take(length);
    decay.enumerate().map(move |(position, decay)| if position < other { decay } else { decay * alpha })
}

/// One value per pair: sums unchanged, or token values as weighted sums.
fn weighted(values: &[f64], weights: &[f64], lengths: &[usize], granularity: Granularity) -> Vec<f64> {
    if granularity == Granularity::Summed {
        return values.to_vec();
    }
    let mut tokens = values.iter().zip(weights);
    let sum = |&length: &usize| tokens.by_ref().take(length).map(|(value, weight)| value * weight).sum();
    lengths.iter().map(sum).collect()
}
