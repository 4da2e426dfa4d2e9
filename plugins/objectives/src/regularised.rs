//! DPO with an additional term on the answers' lengths or the chosen answer's likelihood.

use num_dual::Dual64;

use crate::declare::pair_loss;
use crate::numerics::{log_sigmoid, relu};
use crate::pair_loss::Pair;

pair_loss! {
    /// Length-regularised DPO (R-DPO, arXiv 2403.19159). `-log sigmoid(beta h + length_alpha (tokens_chosen
    /// - tokens_rejected))`: smaller gradients for pairs whose chosen answer is the longer one.
    "rdpo" => RdpoConfig, pairs, rdpo {
        /// KL regularisation strength, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Length penalty per token, the paper's alpha; at least 0. Default 0.01.
        length_alpha: f64 = 0.01, NotNegative;
    }
}

fn rdpo(config: &RdpoConfig, pair: &Pair) -> Dual64 {
    let tokens = pair.chosen.length - pair.rejected.length;
    -log_sigmoid(pair.margin() * config.beta + config.length_alpha * tokens)
}

pair_loss! {
    /// DPO plus the chosen answer's negative log-likelihood (iterative RPO, arXiv 2404.19733). `-log
    /// sigmoid(beta h) - rpo_alpha log pi(chosen) / tokens`.
    "rpo" => RpoConfig, pairs, rpo {
        /// KL regularisation strength, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Weight of the negative log-likelihood; at least 0. Default 1.
        rpo_alpha: f64 = 1.0, NotNegative;
    }
}

fn rpo(config: &RpoConfig, pair: &Pair) -> Dual64 {
    -log_sigmoid(pair.margin() * config.beta) - pair.chosen.mean() * config.rpo_alpha
}

pair_loss! {
    /// DPO-positive (DPOP, arXiv 2402.13228). `-log sigmoid(beta (h - dpop_lambda max(0, log ref(chosen) - log
    /// pi(chosen))))`: penalises a chosen answer that becomes less likely than under the reference.
    "dpop" => DpopConfig, pairs, dpop {
        /// KL regularisation strength, per nat of log-ratio; more than 0. Default 0.3, the paper's.
        beta: f64 = 0.3, Positive;
        /// Weight of the penalty; at least 0. Default 50, the paper's.
        dpop_lambda: f64 = 50.0, NotNegative;
    }
}

fn dpop(config: &DpopConfig, pair: &Pair) -> Dual64 {
    let penalty = relu(-pair.chosen.ratio()) * config.dpop_lambda;
    -log_sigmoid((pair.margin() - penalty) * config.beta)
}
