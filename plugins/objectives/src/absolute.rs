//! Losses of each answer's log-ratio `u = log pi(y) - log ref(y)`, beyond the margin `u_chosen - u_rejected`.

use num_dual::{Dual64, DualNum};

use crate::declare::pair_loss;
use crate::numerics::{log_sigmoid, sigmoid};
use crate::pair_loss::Pair;

pair_loss! {
    /// Noise-contrastive alignment on pairs (arXiv 2402.05369). With `u` an answer's log-ratio to the
    /// reference, `-log sigmoid(beta u_chosen) - (log sigmoid(-beta u_chosen) + log sigmoid(-beta
    /// u_rejected)) / 2`.
    "nca_pair" => NcaPairConfig, ratios, nca_pair {
        /// Scale of the rewards, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn nca_pair(config: &NcaPairConfig, pair: &Pair) -> Dual64 {
    let (win, loss) = (pair.chosen.ratio() * config.beta, pair.rejected.ratio() * config.beta);
    -log_sigmoid(win) - (log_sigmoid(-win) + log_sigmoid(-loss)) * 0.5
}

pair_loss! {
    /// Binary classifier optimisation on pairs (arXiv 2404.04656), without its reward shift, as in TRL.
    /// `-log sigmoid(beta u_chosen) - log sigmoid(-beta u_rejected)`, with `u` the log-ratio.
    "bco_pair" => BcoPairConfig, ratios, bco_pair {
        /// Scale of the rewards, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn bco_pair(config: &BcoPairConfig, pair: &Pair) -> Dual64 {
    -log_sigmoid(pair.chosen.ratio() * config.beta) - log_sigmoid(-pair.rejected.ratio() * config.beta)
}

pair_loss! {
    /// Self-play preference optimisation with hard labels (arXiv 2405.00675, equation 4.7).
    /// `(u_chosen - 1 / (2 beta))^2 + (u_rejected + 1 / (2 beta))^2`, with `u` the log-ratio.
    "sppo_hard" => SppoHardConfig, ratios, sppo_hard {
        /// Regularisation strength, `1 / eta` of the paper; in [0.0001, 1e6]. Default 0.1.
        beta: f64 = 0.1, Within(1e-4, 1e6);
    }
}

fn sppo_hard(config: &SppoHardConfig, pair: &Pair) -> Dual64 {
    let aim = 0.5 / config.beta;
    (pair.chosen.ratio() - aim).powi(2) + (pair.rejected.ratio() + aim).powi(2)
}

pair_loss! {
    /// Anchored preference optimisation for chosen answers better than the policy's own (APO-zero, arXiv
    /// 2408.06266, equation 7). `1 - sigmoid(beta u_chosen) + sigmoid(beta u_rejected)`, `u` the log-ratio.
    "apo_zero" => ApoZeroConfig, ratios, apo_zero {
        /// Scale of the rewards, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn apo_zero(config: &ApoZeroConfig, pair: &Pair) -> Dual64 {
    sigmoid(-pair.chosen.ratio() * config.beta) + sigmoid(pair.rejected.ratio() * config.beta)
}

pair_loss! {
    /// Anchored preference optimisation for chosen answers worse than the policy's own (APO-down, arXiv
    /// 2408.06266, equation 8). `sigmoid(beta u_chosen) + 1 - sigmoid(beta (u_chosen - u_rejected))`.
    "apo_down" => ApoDownConfig, ratios, apo_down {
        /// Scale of the rewards, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn apo_down(config: &ApoDownConfig, pair: &Pair) -> Dual64 {
    let (win, loss) = (pair.chosen.ratio() * config.beta, pair.rejected.ratio() * config.beta);
    sigmoid(win) + sigmoid(loss - win)
}

pair_loss! {
    /// Anchored reward of mDPO (arXiv 2406.11839): keeps the chosen answer likely. `-log sigmoid(beta
    /// u_chosen - anchor)`, with `u` the log-ratio. For use as a part of `mix`.
    "anchor" => AnchorConfig, pairs, anchor {
        /// Scale of the reward, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Target of the chosen answer's reward, the paper's delta; in [-1e6, 1e6]. Default 0.
        anchor: f64 = 0.0, Within(-1e6, 1e6);
    }
}

fn anchor(config: &AnchorConfig, pair: &Pair) -> Dual64 {
    -log_sigmoid(pair.chosen.ratio() * config.beta - config.anchor)
}
