//! What keeps the policy near the reference: the f-divergence behind a score.
//!
//! With `u = log pi(y) - log ref(y)` and `f` the generator of the divergence, f-DPO (arXiv 2309.16240)
//! replaces the log-ratio in DPO by `f'(exp u)`, up to a constant that cancels:
//!
//! ```text
//! reverse_kl         u
//! forward_kl         1 - exp(-u)
//! js_divergence      log 2 + log sigmoid(u)
//! alpha_divergence   (exp((alpha - 1) u) - 1) / (alpha - 1)
//! ```
//!
//! Exponents are cut at 80, as TRL does for `alpha_divergence` in float32.

use num_dual::Dual64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::numerics::{capped_exp, log_sigmoid};

/// The divergence between policy and reference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    /// That of DPO.
    #[default]
    ReverseKl,
    /// Kullback-Leibler with the arguments exchanged.
    ForwardKl,
    /// Jensen-Shannon.
    JsDivergence,
    /// Between the two first, by `f_alpha_divergence_coef`.
    AlphaDivergence,
}

impl Divergence {
    /// The score of an answer whose log-ratio is `ratio`.
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
