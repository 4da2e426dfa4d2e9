//! A loss of one pair, as an author writes it, and the objective that it makes.
//!
//! The author's function maps a [`Pair`] to a dual number. It is evaluated twice, with the derivative by
//! the chosen and by the rejected answer's log-prob (forward mode), so no gradient is written by hand.

use std::fmt::Debug;

use isr_api::{
    ComponentError, Granularity, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements, View,
};
use num_dual::Dual64;

use crate::divergence::Divergence;
use crate::error::ObjectiveError;
use crate::pairs::means;
use crate::reading::{Reading, Side};

/// One answer of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Log-prob under the policy, in nats: summed over tokens, which `ld_alpha` and `gamma` weigh.
    pub logp: Dual64,
    /// The same under the reference; 0 where the loss has none.
    pub reference: f64,
    /// The log-ratio, or what the f-divergence makes of it.
    pub score: Dual64,
    /// Tokens, at least 1.
    pub length: f64,
}

impl Answer {
    /// Log-prob under the policy minus that under the reference.
    pub fn ratio(&self) -> Dual64 {
        self.logp - self.reference
    }

    /// Log-prob a token.
    pub fn mean(&self) -> Dual64 {
        self.logp / self.length
    }
}

/// What a loss is a function of.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The preferred answer.
    pub chosen: Answer,
    /// The one that lost, or what stands for it ([`Treatment::against`]).
    pub rejected: Answer,
}

impl Pair {
    /// The chosen answer's score minus the rejected one's.
    pub fn margin(&self) -> Dual64 {
        self.chosen.score - self.rejected.score
    }
}

/// How log-probs become a [`Pair`], and what is logged.
#[derive(Clone, Copy, Debug)]
pub struct Treatment {
    /// Scale of the logged rewards.
    pub beta: f64,
    /// Whether logged rewards are means over tokens.
    pub per_token_rewards: bool,
    /// Whether the reference is needed.
    pub reference: bool,
    /// What a score is.
    pub divergence: Divergence,
    /// Alpha of the alpha-divergence.
    pub divergence_alpha: f64,
    /// LD-DPO's weight of tokens past the shorter answer (arXiv 2409.06411).
    pub ld_alpha: Option<f64>,
    /// Whether pairs weigh by their probability (arXiv 2406.11827).
    pub wpo: bool,
    /// D2PO's weight of a token relative to the one before it (arXiv 2502.14340).
    pub gamma: Option<f64>,
    /// What stands for the rejected answer in a [`Pair`].
    pub against: View,
}

impl Default for Treatment {
    /// Sums of plain log-ratios; `beta` is 0.1.
    fn default() -> Self {
        Self {
            beta: 0.1,
            per_token_rewards: false,
            reference: true,
            divergence: Divergence::default(),
            divergence_alpha: 1.0,
            ld_alpha: None,
            wpo: false,
            gamma: None,
            against: View::Rejected,
        }
    }
}

/// A loss of one pair.
pub trait PairLoss: Debug + Clone + Send + Sync + 'static {
    /// The loss. Finite for every finite pair.
    fn loss(&self, pair: &Pair) -> Dual64;

    /// What it is a function of.
    fn treatment(&self) -> Treatment;
}

/// The objective of a [`PairLoss`]: its mean over pairs.
#[derive(Clone, Debug)]
pub struct PairObjective<L>(pub L);

impl<L: PairLoss> PreferenceObjective for PairObjective<L> {
    fn requirements(&self) -> Requirements {
        requirements(&self.0.treatment())
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let treatment = self.0.treatment();
        let reading = Reading::new(batch, &treatment)?;
        let pairs = reading.pairs() as f64;
        let mut total = 0.0;
        let (mut by_chosen, mut by_rejected) = (Vec::new(), Vec::new());
        for index in 0..reading.pairs() {
            let weight = if treatment.wpo { reading.weight(index) } else { 1.0 };
            let at = |chosen, rejected| {
                let chosen = answer(&reading.chosen, index, chosen, &treatment);
                let rejected = answer(&reading.rejected, index, rejected, &treatment);
                self.0.loss(&Pair { chosen, rejected })
            };
            let (first, second) = (at(1.0, 0.0), at(0.0, 1.0));
            total += weight * first.re;
            by_chosen.push(weight * first.eps / pairs);
            by_rejected.push(weight * second.eps / pairs);
        }
        Ok(ObjectiveValue {
            loss: total / pairs,
            gradients: reading.gradients(batch, &by_chosen, &by_rejected),
            metrics: means(reading.metrics(&treatment)),
        })
    }
}

/// Both answers, and tokens where their position matters.
pub(crate) fn requirements(treatment: &Treatment) -> Requirements {
    let granularity = match (treatment.ld_alpha, treatment.gamma) {
        (None, None) => Granularity::Summed,
        _ => Granularity::PerToken,
    };
    Requirements {
        views: vec![View::Chosen, treatment.against],
        granularity,
        reference: treatment.reference,
    }
}

fn answer(side: &Side, index: usize, seed: f64, treatment: &Treatment) -> Answer {
    let (logp, reference) = (Dual64::new(side.policy[index], seed), side.reference[index]);
    let score = treatment.divergence.score(logp - reference, treatment.divergence_alpha);
    Answer { logp, reference, score, length: side.lengths[index] as f64 }
}

/// An answer without tokens has no mean.
pub(crate) fn expect_tokens(view: View, lengths: &[usize]) -> Result<(), ObjectiveError> {
    match lengths.iter().position(|&length| length == 0) {
        Some(pair) => Err(ObjectiveError::NoTokens { view, pair }),
        None => Ok(()),
    }
}
