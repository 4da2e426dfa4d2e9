//! Both answers of a batch as numbers a pair, and the way back from slopes to gradients.

use isr_api::{ComponentError, Granularity, ObjectiveBatch, View, ViewLogProbs};

use crate::pair_loss::{Treatment, expect_tokens, requirements};
use crate::pairs::{checked, gradients};

/// One answer of each pair.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// Log-probs under the policy.
    pub(crate) policy: Vec<f64>,
    /// Log-probs under the reference; zeros where there is none.
    pub(crate) reference: Vec<f64>,
    /// Tokens.
    pub(crate) lengths: Vec<usize>,
    /// Plain sums of the policy's log-probs, whatever tokens weigh.
    sums: Vec<f64>,
    /// What a token's log-prob counts; empty where log-probs came as sums.
    token_weights: Vec<f64>,
}

/// A batch of pairs.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The preferred answers.
    pub(crate) chosen: Side,
    /// Those that lost.
    pub(crate) rejected: Side,
    against: View,
}

impl Reading {
    pub(crate) fn new(batch: &ObjectiveBatch, treatment: &Treatment) -> Result<Self, ComponentError> {
        let granularity = requirements(treatment).granularity;
        let read = |view| -> Result<&ViewLogProbs, ComponentError> {
            let found = checked(batch, view, granularity, treatment.reference)?;
            expect_tokens(view, &found.lengths)?;
            Ok(found)
        };
        let (chosen, rejected) = (read(View::Chosen)?, read(treatment.against)?);
        Ok(Self {
            chosen: Side::new(chosen, rejected, treatment),
            rejected: Side::new(rejected, chosen, treatment),
            against: treatment.against,
        })
    }

    pub(crate) fn pairs(&self) -> usize {
        self.chosen.policy.len()
    }

    /// WPO's weight of a pair: the product of both answers' mean token probabilities (arXiv 2406.11827,
    /// equation 2). Log-probs above 0, which are none, count as 0.
    pub(crate) fn weight(&self, pair: usize) -> f64 {
        let mean = |side: &Side| side.sums[pair] / side.lengths[pair] as f64;
        (mean(&self.chosen).min(0.0) + mean(&self.rejected).min(0.0)).exp()
    }

    /// Gradients laid out like the batch from the loss's slope by each answer's log-prob.
    pub(crate) fn gradients(
        &self,
        batch: &ObjectiveBatch,
        by_chosen: &[f64],
        by_rejected: &[f64],
    ) -> Vec<Vec<f64>> {
        let chosen = (View::Chosen, self.chosen.spread(by_chosen));
        gradients(batch, [chosen, (self.against, self.rejected.spread(by_rejected))])
    }

    /// What is logged of each pair.
    pub(crate) fn metrics(&self, treatment: &Treatment) -> [(&'static str, Vec<f64>); 6] {
        let (wins, losses) = (self.chosen.rewards(treatment), self.rejected.rewards(treatment));
        let margins: Vec<f64> = wins.iter().zip(&losses).map(|(win, loss)| win - loss).collect();
        let accuracy = margins.iter().map(|&margin| f64::from(u8::from(margin > 0.0))).collect();
        // A mix logs both kinds of pairs.
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

impl Side {
    fn new(view: &ViewLogProbs, other: &ViewLogProbs, treatment: &Treatment) -> Self {
        let lengths = view.lengths.clone();
        let granularity = requirements(treatment).granularity;
        let token_weights = match granularity {
            Granularity::Summed => Vec::new(),
            Granularity::PerToken => {
                let both = lengths.iter().zip(&other.lengths);
                both.flat_map(|(&own, &other)| token_weights(own, other, treatment)).collect()
            }
        };
        let plain = vec![1.0; view.policy.len()];
        let reference = match treatment.reference {
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

    /// beta times the log-ratio, or times the log-prob where there is no reference.
    fn rewards(&self, treatment: &Treatment) -> Vec<f64> {
        let ratios = self.policy.iter().zip(&self.reference).zip(&self.lengths);
        let reward = |((policy, reference), &length): ((&f64, &f64), &usize)| {
            let tokens = if treatment.per_token_rewards { length as f64 } else { 1.0 };
            treatment.beta * (policy - reference) / tokens
        };
        ratios.map(reward).collect()
    }

    fn spread(&self, slopes: &[f64]) -> Vec<f64> {
        if self.token_weights.is_empty() {
            return slopes.to_vec();
        }
        let each = slopes.iter().zip(&self.lengths);
        let by_token = each.flat_map(|(&slope, &length)| std::iter::repeat_n(slope, length));
        by_token.zip(&self.token_weights).map(|(slope, weight)| slope * weight).collect()
    }
}

/// What each token of an answer counts.
fn token_weights(length: usize, other: usize, treatment: &Treatment) -> impl Iterator<Item = f64> + use<> {
    let (alpha, gamma) = (treatment.ld_alpha.unwrap_or(1.0), treatment.gamma.unwrap_or(1.0));
    let decay = std::iter::successors(Some(1.0), move |weight| Some(weight * gamma)).take(length);
    decay.enumerate().map(move |(position, decay)| if position < other { decay } else { decay * alpha })
}

/// One number a pair: sums as they came, tokens summed with their weights.
fn weighted(values: &[f64], weights: &[f64], lengths: &[usize], granularity: Granularity) -> Vec<f64> {
    if granularity == Granularity::Summed {
        return values.to_vec();
    }
    let mut tokens = values.iter().zip(weights);
    let sum = |&length: &usize| tokens.by_ref().take(length).map(|(value, weight)| value * weight).sum();
    lengths.iter().map(sum).collect()
}
