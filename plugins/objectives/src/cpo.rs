//! Losses without a reference: CPO, SimPO with AlphaPO, and ORPO.
//!
//! TRL averages their negative log-likelihood over all tokens of a batch (ORPO's over the prompt too); here
//! it is a mean over an answer's tokens, and then over pairs, as [`sft`](crate::SftConfig) has it.

use num_dual::{Dual64, DualNum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::declare::pair_loss;
use crate::dpo::smoothed;
use crate::numerics::{capped_exp, log_one_minus_exp, log_sigmoid, relu};
use crate::pair_loss::Pair;

/// CPO's loss of the margin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CpoLoss {
    /// Logistic, on summed log-probs.
    #[default]
    Sigmoid,
    /// `max(0, 1 - beta h)`, on summed log-probs.
    Hinge,
    /// `(h - 1 / (2 beta))^2`, on log-probs a token.
    Ipo,
}

pair_loss! {
    /// Contrastive preference optimisation (arXiv 2401.08417): DPO without a reference, and the chosen
    /// answer's likelihood. `-log sigmoid(beta (log pi(chosen) - log pi(rejected))) - cpo_alpha log
    /// pi(chosen) / tokens`.
    "cpo" => CpoConfig, sums, cpo {
        /// Scale of the margin; at least 0.0001. Default 0.1.
        beta: f64 = 0.1, Within(1e-4, 1e6);
        /// Loss of the margin. Default `sigmoid`.
        loss_type: CpoLoss = CpoLoss::Sigmoid, Any;
        /// Assumed share of wrong labels, in [0, 0.5); for `sigmoid` only. Default 0.
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
    /// Simple preference optimisation (arXiv 2405.14734): no reference, log-probs a token, and a margin to
    /// pass. `-log sigmoid(beta (r(chosen) - r(rejected)) - simpo_gamma)` with `r = log pi(y) / tokens`, or
    /// AlphaPO's `r = (1 - exp(-alpha log pi(y) / tokens)) / alpha` (arXiv 2501.03884). The defaults are the
    /// paper's range; TRL's `CPOConfig` has beta 0.1 and gamma 0.5.
    "simpo" => SimpoConfig, means, simpo {
        /// Scale of the rewards; more than 0. Default 2.
        beta: f64 = 2.0, Positive;
        /// Margin of rewards to pass; at least 0. Default 1.
        simpo_gamma: f64 = 1.0, NotNegative;
        /// Assumed share of wrong labels, in [0, 0.5). Default 0.
        label_smoothing: f64 = 0.0, Below(0.0, 0.5);
        /// AlphaPO's shape of the reward; 0 is SimPO. Default 0.
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

/// AlphaPO's reward of a mean log-prob; its limit where alpha is too small for a difference.
fn alpha_reward(mean: Dual64, alpha: f64) -> Dual64 {
    if alpha.abs() < 1e-9 { mean } else { (-capped_exp(-mean * alpha) + 1.0) / alpha }
}

pair_loss! {
    /// Odds-ratio preference optimisation (arXiv 2403.07691): supervised fine-tuning and the odds of the
    /// chosen answer against those of the rejected one. `-m_chosen - beta log sigmoid(odds(m_chosen) -
    /// odds(m_rejected))`, with `m = log pi(y) / tokens` and `odds(m) = m - log(1 - exp(m))`.
    "orpo" => OrpoConfig, means, orpo {
        /// Weight of the odds ratio, the paper's lambda; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn orpo(config: &OrpoConfig, pair: &Pair) -> Dual64 {
    let (win, loss) = (pair.chosen.mean(), pair.rejected.mean());
    let odds = |mean: Dual64| mean - log_one_minus_exp(mean);
    -win - log_sigmoid(odds(win) - odds(loss)) * config.beta
}
