//! Losses of one pair, differentiated in forward mode.
//!
//! A [`PairLoss`] maps a [`Pair`] to a dual number. [`PairObjective`] evaluates it twice per pair, once with
//! the derivative seeded at the chosen and once at the rejected answer's log-prob, so a loss needs no
//! hand-written gradient.

use std::fmt::Debug;

use isr_api::{ComponentError, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements};
use num_dual::Dual64;

use crate::batch::means;
use crate::pair_batch::{Completions, PairBatch};
use crate::spec::LossSpec;

/// Log-probs of one completion (answer) of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// Log-prob under the policy in nats: a sum over tokens, weighted where `ld_alpha` or `gamma` is set.
    pub logp: Dual64,
    /// Log-prob under the reference policy, reduced in the same way; 0 if the loss has no reference.
    pub reference: f64,
    /// Log-ratio `logp - reference`, mapped by the f-divergence of the [`LossSpec`].
    pub score: Dual64,
    /// Number of tokens, at least 1.
    pub length: f64,
}

impl Completion {
    /// Log-ratio of policy to reference, in nats.
    pub fn ratio(&self) -> Dual64 {
        self.logp - self.reference
    }

    /// Mean log-prob per token under the policy, in nats.
    pub fn mean(&self) -> Dual64 {
        self.logp / self.length
    }
}

/// Argument of a [`PairLoss`]: one preference pair.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The preferred answer.
    pub chosen: Completion,
    /// The dispreferred answer, or the view that [`LossSpec::against`] names in its place.
    pub rejected: Completion,
}

impl Pair {
    /// Score margin: score of the chosen answer minus score of the rejected one.
    pub fn margin(&self) -> Dual64 {
        self.chosen.score - self.rejected.score
    }
}

/// A loss of one preference pair, without a gradient: [`PairObjective`] differentiates it.
pub trait PairLoss: Debug + Clone + Send + Sync + 'static {
    /// Loss of a pair. Must be finite, with a finite derivative, for every finite pair; log-ratios reach
    /// +-1e4.
    fn loss(&self, pair: &Pair) -> Dual64;

    /// Which log-probs the loss requires and how they are reduced.
    fn spec(&self) -> LossSpec;
}

/// Preference objective of a [`PairLoss`]: the mean loss over pairs and its exact gradient.
///
/// Logs `chosen_reward`, `rejected_reward`, `reward_margin`, `accuracy`, `logps_chosen` and `logps_rejected`.
#[derive(Clone, Debug)]
pub struct PairObjective<L>(pub L);

impl<L: PairLoss> PreferenceObjective for PairObjective<L> {
    fn requirements(&self) -> Requirements {
        self.0.spec().requirements()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let spec = self.0.spec();
        let pair_batch = PairBatch::new(batch, &spec)?;
        let pairs = pair_batch.pairs() as f64;
        let mut total = 0.0;
        let (mut by_chosen, mut by_rejected) = (Vec::new(), Vec::new());
        for index in 0..pair_batch.pairs() {
            let weight = if spec.wpo { pair_batch.weight(index) } else { 1.0 };
            let at = |chosen, rejected| {
                let chosen = completion(&pair_batch.chosen, index, chosen, &spec);
                let rejected = completion(&pair_batch.rejected, index, rejected, &spec);
                self.0.loss(&Pair { chosen, rejected })
            };
            let (first, second) = (at(1.0, 0.0), at(0.0, 1.0));
            total += weight * first.re;
            by_chosen.push(weight * first.eps / pairs);
            by_rejected.push(weight * second.eps / pairs);
        }
        Ok(ObjectiveValue {
            loss: total / pairs,
            gradients: pair_batch.gradients(batch, &by_chosen, &by_rejected),
            metrics: means(pair_batch.metrics(&spec)),
        })
    }
}

/// Completion of pair `index`, with `seed` as the derivative of its log-prob.
fn completion(completions: &Completions, index: usize, seed: f64, spec: &LossSpec) -> Completion {
    let (logp, reference) = (Dual64::new(completions.policy[index], seed), completions.reference[index]);
    let score = spec.divergence.score(logp - reference, spec.divergence_alpha);
    Completion { logp, reference, score, length: completions.lengths[index] as f64 }
}
