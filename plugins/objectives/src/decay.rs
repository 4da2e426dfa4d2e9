//! DPO with token weights that decay with position.

use num_dual::Dual64;

use crate::declare::pair_loss;
use crate::numerics::log_sigmoid;
use crate::pair_loss::Pair;

pair_loss! {
    /// DPO with temporal decay (D2PO, arXiv 2502.14340). `-log sigmoid(beta (d_chosen - d_rejected))`, with
    /// `d = sum over tokens t of gamma^t log(pi(y_t) / ref(y_t))` and `t` from 0. The authors' code counts `t`
    /// from 1: its beta is ours divided by gamma.
    "d2po" => D2poConfig, decayed, d2po {
        /// Scale of the rewards, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Decay per token: a token's weight relative to that of the token before it, in [0, 1]; 1 is DPO.
        /// Default 0.98.
        gamma: f64 = 0.98, Within(0.0, 1.0);
    }
}

fn d2po(config: &D2poConfig, pair: &Pair) -> Dual64 {
    -log_sigmoid(pair.margin() * config.beta)
}
