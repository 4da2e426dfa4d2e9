//! The specification of a pair loss: which log-probs it needs and how they are reduced to numbers.

use isr_api::{Granularity, Requirements, View};

use crate::divergence::Divergence;

/// Inputs of a [`PairLoss`](crate::PairLoss): the reduction from token log-probs to a
/// [`Pair`](crate::Pair), and the scale of the logged rewards.
#[derive(Clone, Copy, Debug)]
pub struct LossSpec {
    /// Factor of the logged rewards, `beta (log pi(y) - log ref(y))`. No effect on the loss.
    pub beta: f64,
    /// Whether logged rewards are divided by the number of tokens.
    pub per_token_rewards: bool,
    /// Whether log-probs under the reference policy are required.
    pub reference: bool,
    /// f-divergence that maps a log-ratio to a score (f-DPO, arXiv 2309.16240).
    pub divergence: Divergence,
    /// Alpha of [`Divergence::AlphaDivergence`]; ignored by the others.
    pub divergence_alpha: f64,
    /// Weight of the tokens past the length of the shorter answer (LD-DPO, arXiv 2409.06411). Requires
    /// per-token log-probs. `None` weighs all tokens equally.
    pub ld_alpha: Option<f64>,
    /// Whether each pair is weighted by the mean token probabilities of its answers (WPO, arXiv 2406.11827).
    pub wpo: bool,
    /// Decay per token: token `t`, counted from 0, has weight `gamma^t` (D2PO, arXiv 2502.14340). Requires
    /// per-token log-probs. `None` weighs all tokens equally.
    pub gamma: Option<f64>,
    /// View that is compared with the chosen answer and fills [`Pair::rejected`](crate::Pair::rejected).
    pub against: View,
}

impl Default for LossSpec {
    /// Summed log-ratios of chosen and rejected answers to the reference, reverse KL, `beta` 0.1.
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

impl LossSpec {
    /// Per-token log-probs where token weights differ, else sums.
    pub(crate) fn granularity(&self) -> Granularity {
        match (self.ld_alpha, self.gamma) {
            (None, None) => Granularity::Summed,
            _ => Granularity::PerToken,
        }
    }

    /// What a trainer must supply for this loss.
    pub(crate) fn requirements(&self) -> Requirements {
        Requirements {
            views: vec![View::Chosen, self.against],
            granularity: self.granularity(),
            reference: self.reference,
            across_batch: false,
        }
    }
}
