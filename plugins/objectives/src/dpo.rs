//! Logistic losses of the score margin: DPO and its variants.
//!
//! `h` is the chosen answer's score minus the rejected one's. A score is the log-ratio of policy to
//! reference, summed over the answer's tokens and mapped by `f_divergence_type`.

use num_dual::Dual64;

use crate::declare::pair_loss;
use crate::numerics::{capped_exp, log_sigmoid, sigmoid};
use crate::pair_loss::Pair;

pair_loss! {
    /// Direct preference optimisation (DPO, arXiv 2305.18290). With `h` the chosen answer's log-ratio to the
    /// reference minus the rejected one's, `-(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h)`; `e` is
    /// `label_smoothing`. Logs `chosen_reward`, `rejected_reward`, `reward_margin` (log-ratios to the
    /// reference, times beta), `accuracy` (share of pairs with a positive margin), `logps_chosen` and
    /// `logps_rejected`.
    "dpo" => DpoConfig, scores, dpo {
        /// KL regularisation strength, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Assumed share of pairs with a wrong label (cDPO, <https://ericmitchell.ai/cdpo.pdf>), in
        /// [0, 0.5). Default 0.
        label_smoothing: f64 = 0.0, Below(0.0, 0.5);
    }
}

fn dpo(config: &DpoConfig, pair: &Pair) -> Dual64 {
    smoothed(pair.margin() * config.beta, config.label_smoothing)
}

/// Label-smoothed logistic loss, `-(1 - e) log sigmoid(x) - e log sigmoid(-x)`.
pub(crate) fn smoothed(x: Dual64, label_smoothing: f64) -> Dual64 {
    -log_sigmoid(x) * (1.0 - label_smoothing) - log_sigmoid(-x) * label_smoothing
}

pair_loss! {
    /// Robust DPO (arXiv 2403.00409): an unbiased estimate of the DPO loss if labels are flipped with
    /// probability `e`. `(-(1 - e) log sigmoid(beta h) + e log sigmoid(-beta h)) / (1 - 2 e)`; `e` is `label_smoothing`.
    "robust" => RobustConfig, scores, robust {
        /// KL regularisation strength, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Share of pairs with a wrong label, in [0, 0.5). Default 0.
        label_smoothing: f64 = 0.0, Below(0.0, 0.5);
    }
}

fn robust(config: &RobustConfig, pair: &Pair) -> Dual64 {
    let (x, flipped) = (pair.margin() * config.beta, config.label_smoothing);
    (-log_sigmoid(x) * (1.0 - flipped) + log_sigmoid(-x) * flipped) / (1.0 - 2.0 * flipped)
}

pair_loss! {
    /// Efficient exact optimisation on pairs (EXO-pref, arXiv 2402.00856, equation 16).
    /// `q log(q / (1 - e)) + (1 - q) log((1 - q) / e)` with `q = sigmoid(beta h)`; `e` is `label_smoothing`.
    "exo_pair" => ExoPairConfig, scores, exo_pair {
        /// KL regularisation strength, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Probability of the rejected answer under the smoothed labels, in (0, 0.5). Default 0.001.
        label_smoothing: f64 = 1e-3, Inside(0.0, 0.5);
    }
}

fn exo_pair(config: &ExoPairConfig, pair: &Pair) -> Dual64 {
    let (x, rejected) = (pair.margin() * config.beta, config.label_smoothing);
    sigmoid(x) * (log_sigmoid(x) - (-rejected).ln_1p()) + sigmoid(-x) * (log_sigmoid(-x) - rejected.ln())
}

pair_loss! {
    /// Length-normalised DPO (Tulu 3, arXiv 2411.15124), TRL's loss type `sigmoid_norm`. `-log sigmoid(beta
    /// (score_chosen / tokens - score_rejected / tokens))`.
    "sigmoid_norm" => SigmoidNormConfig, scores, sigmoid_norm {
        /// KL regularisation strength, per nat of log-ratio per token; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn sigmoid_norm(config: &SigmoidNormConfig, pair: &Pair) -> Dual64 {
    -log_sigmoid(mean_margin(pair) * config.beta)
}

/// Margin of scores per token.
pub(crate) fn mean_margin(pair: &Pair) -> Dual64 {
    pair.chosen.score / pair.chosen.length - pair.rejected.score / pair.rejected.length
}

pair_loss! {
    /// DiscoPOP, log-ratio modulated loss (arXiv 2406.08414, equation 5). With `x = beta h` and `m = sigmoid(x
    /// / discopop_tau)`, `-(1 - m) log sigmoid(x) + m exp(-x)`; the second term is computed as one
    /// exponential, clamped at `exp(80)`.
    "discopop" => DiscopopConfig, scores, discopop {
        /// KL regularisation strength, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Temperature of the blend between the two terms; more than 0. Default 0.05.
        discopop_tau: f64 = 0.05, Positive;
    }
}

fn discopop(config: &DiscopopConfig, pair: &Pair) -> Dual64 {
    let x = pair.margin() * config.beta;
    let modulation = x / config.discopop_tau;
    -log_sigmoid(x) * sigmoid(-modulation) + capped_exp(log_sigmoid(modulation) - x)
}
