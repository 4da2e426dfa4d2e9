//! Hinge and squared losses of the score margin.

use num_dual::{Dual64, DualNum};

use crate::declare::pair_loss;
use crate::dpo::mean_margin;
use crate::numerics::relu;
use crate::pair_loss::Pair;

pair_loss! {
    /// Hinge loss of SLiC-HF (arXiv 2305.10425) on log-ratios (RSO, arXiv 2309.06657).
    /// `max(0, 1 - beta h)`, with `h` the chosen answer's log-ratio minus the rejected one's.
    "hinge" => HingeConfig, scores, hinge {
        /// Reciprocal of the margin, in nats, at which the loss becomes 0; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn hinge(config: &HingeConfig, pair: &Pair) -> Dual64 {
    relu(-pair.margin() * config.beta + 1.0)
}

pair_loss! {
    /// Identity preference optimisation (IPO, arXiv 2310.12036, equation 17). `(h - 1 / (2 beta))^2`, with `h`
    /// the margin of mean scores per token, as in TRL.
    "ipo" => IpoConfig, scores, ipo {
        /// Regularisation strength, the paper's tau: the target margin is `1 / (2 beta)`; in [0.0001, 1e6].
        /// Default 0.1.
        beta: f64 = 0.1, Within(1e-4, 1e6);
    }
}

fn ipo(config: &IpoConfig, pair: &Pair) -> Dual64 {
    (mean_margin(pair) - 0.5 / config.beta).powi(2)
}
