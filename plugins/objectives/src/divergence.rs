//! f-divergences between policy and reference (f-DPO, arXiv 2309.16240).
//!
//! With `u = log pi(y) - log ref(y)` and `f` the generator of the divergence, f-DPO replaces the log-ratio in
//! DPO by the score `f'(exp u)`, up to a constant that cancels in the margin:
//!
//! ```text
//! reverse_kl         u
//! forward_kl         1 - exp(-u)
//! js_divergence      log 2 + log sigmoid(u)
//! alpha_divergence   (exp((alpha - 1) u) - 1) / (alpha - 1)
//! ```
//!
//! Exponents are clamped at 80, as TRL does for `alpha_divergence` in float32.

use num_dual::Dual64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::numerics::{capped_exp, log_sigmoid};

/// f-divergence that regularises the policy towards the reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    /// Reverse Kullback-Leibler divergence, that of DPO: the score is the log-ratio.
    #[default]
    ReverseKl,
    /// Forward Kullback-Leibler divergence.
    ForwardKl,
    /// Jensen-Shannon divergence.
    JsDivergence,
    /// Alpha-divergence with `f_alpha_divergence_coef`: reverse KL at 1, forward KL at 0.
    AlphaDivergence,
}

impl Divergence {
    /// Score of an answer with log-ratio `ratio` (nats); `alpha` is that of the alpha-divergence.
    pub(crate) fn score(self, ratio: Dual64, alpha: f64) -> Dual64 {
        match self {
            Self::ReverseKl => ratio,
            Self::ForwardKl => -capped_exp(-ratio) + 1.0,
            Self::JsDivergence => log_sigmoid(ratio) + std::f64::consts::LN_2,
            Self::AlphaDivergence if (alpha - 1.0).abs() < 1e-6 => ratio,
            Self::AlphaDivergence => (capped_exp(ratio * (alpha - 1.0)) - 1.0) / (alpha - 1.0),
        }
    }
}
