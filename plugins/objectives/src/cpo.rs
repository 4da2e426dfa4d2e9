//! Reference-free losses: CPO, SimPO with AlphaPO, and ORPO.
//!
//! Their negative log-likelihood is a mean over an answer's tokens and then over pairs, as in
//! [`sft`](crate::SftConfig). TRL averages over all tokens of a batch (ORPO's over the prompt too).

use num_dual::{Dual64, DualNum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::declare::pair_loss;
use crate::dpo::smoothed;
use crate::numerics::{capped_exp, log_one_minus_exp, log_sigmoid, relu};
use crate::pair_loss::Pair;

/// Margin loss of [`CpoConfig`]; `h` is the log-prob margin `log pi(chosen) - log pi(rejected)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CpoLoss {
    /// `-log sigmoid(beta h)`, on summed log-probs.
    #[default]
    Sigmoid,
    /// `max(0, 1 - beta h)`, on summed log-probs.
    Hinge,
    /// `(h - 1 / (2 beta))^2`, on mean log-probs per token.
    Ipo,
}

pair_loss! {
    /// Contrastive preference optimisation (CPO, arXiv 2401.08417): reference-free DPO plus the chosen answer's
    /// negative log-likelihood. `-log sigmoid(beta (log pi(chosen) - log pi(rejected))) - cpo_alpha log
    /// pi(chosen) / tokens`.
    "cpo" => CpoConfig, sums, cpo {
        /// Scale of the margin, per nat; at least 0.0001. Default 0.1.
        beta: f64 = 0.1, Within(1e-4, 1e6);
        /// Margin loss: `sigmoid`, `hinge` or `ipo`. Default `sigmoid`.
        loss_type: CpoLoss = CpoLoss::Sigmoid, Any;
        /// Assumed share of pairs with a wrong label, in [0, 0.5); for `sigmoid` only. Default 0.
        label_smoothing: f64 = 0.0, Below(0.0, 0.5);
        /// Weight of the chosen answer's negative log-likelihood; at least 0. Default 1.
        cpo_alpha: f64 = 1.0, NotNegative;
    }
}

fn cpo(config: &CpoConfig, pair: &Pair) -> Dual64 {
    let margin = pair.chosen.logp - pair.rejected.logp;
    let by_margin = match config.loss_type {
        CpoLoss::Sigmoid => smoothed(margin * config.beta, config.label_smoothing),
        CpoLoss::Hinge => relu(-margin * config.beta + 1.0),
        CpoLoss::Ipo => (pair.chosen.mean() - pair.rejected.mean() - 0.5 / config.beta).powi(2),
    };
    by_margin - pair.chosen.mean() * config.cpo_alpha
}

pair_loss! {
    /// Simple preference optimisation (SimPO, arXiv 2405.14734): reference-free, on mean log-probs per token,
    /// with a target margin. `-log sigmoid(beta (r(chosen) - r(rejected)) - simpo_gamma)` with `r = log pi(y)
    /// / tokens`, or AlphaPO's `r = (1 - exp(-alpha log pi(y) / tokens)) / alpha` (arXiv 2501.03884). The
    /// defaults are in the paper's range; TRL's `CPOConfig` has beta 0.1 and gamma 0.5.
    "simpo" => SimpoConfig, means, simpo {
        /// Scale of the rewards, per nat per token; more than 0. Default 2.
        beta: f64 = 2.0, Positive;
        /// Target reward margin, the paper's gamma; at least 0. Default 1.
        simpo_gamma: f64 = 1.0, NotNegative;
        /// Assumed share of pairs with a wrong label, in [0, 0.5). Default 0.
        label_smoothing: f64 = 0.0, Below(0.0, 0.5);
        /// AlphaPO's reward shape, in [-10, 10]; 0 is SimPO. Default 0.
        alpha: f64 = 0.0, Within(-10.0, 10.0);
        /// Weight of the chosen answer's negative log-likelihood (CPO-SimPO); at least 0. Default 0.
        cpo_alpha: f64 = 0.0, NotNegative;
    }
}

fn simpo(config: &SimpoConfig, pair: &Pair) -> Dual64 {
    let margin =
        alpha_reward(pair.chosen.mean(), config.alpha) - alpha_reward(pair.rejected.mean(), config.alpha);
    let by_margin = smoothed(margin * config.beta - config.simpo_gamma, config.label_smoothing);
    by_margin - pair.chosen.mean() * config.cpo_alpha
}

/// AlphaPO's reward of a mean log-prob per token. Below 1e-9, alpha is taken as its limit 0.
fn alpha_reward(mean: Dual64, alpha: f64) -> Dual64 {
    if alpha.abs() < 1e-9 { mean } else { (-capped_exp(-mean * alpha) + 1.0) / alpha }
}

pair_loss! {
    /// Odds-ratio preference optimisation (ORPO, arXiv 2403.07691): supervised fine-tuning plus the log odds
    /// ratio of chosen to rejected answer. `-m_chosen - beta log sigmoid(odds(m_chosen) - odds(m_rejected))`,
    /// with `m = log pi(y) / tokens` and `odds(m) = m - log(1 - exp(m))`.
    "orpo" => OrpoConfig, means, orpo {
        /// Weight of the odds-ratio term, the paper's lambda; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn orpo(config: &OrpoConfig, pair: &Pair) -> Dual64 {
    let (win, loss) = (pair.chosen.mean(), pair.rejected.mean());
    let odds = |mean: Dual64| mean - log_one_minus_exp(mean);
    -win - log_sigmoid(odds(win) - odds(loss)) * config.beta
}
