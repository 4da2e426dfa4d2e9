//! Losses of the margin that are no logistic: hinge and squared.

use num_dual::{Dual64, DualNum};

use crate::declare::pair_loss;
use crate::dpo::mean_margin;
use crate::numerics::relu;
use crate::pair_loss::Pair;

pair_loss! {
    /// The hinge loss of SLiC (arXiv 2305.10425) on log-ratios (RSO, arXiv 2309.06657).
    /// `max(0, 1 - beta h)`, with `h` the chosen answer's log-ratio minus the rejected one's.
    "hinge" => HingeConfig, scores, hinge {
        /// Reciprocal of the margin, in nats, at which a pair is done; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
    }
}

fn hinge(config: &HingeConfig, pair: &Pair) -> Dual64 {
    relu(-pair.margin() * config.beta + 1.0)
}

pair_loss! {
    /// Identity preference optimisation (arXiv 2310.12036, equation 17). `(h - 1 / (2 beta))^2`, with `h`
    /// the difference of the answers' scores a token, as TRL has it.
    "ipo" => IpoConfig, scores, ipo {
        /// Regularisation, the paper's tau: the margin aimed at is `1 / (2 beta)`; in [0.0001, 1e6].
        /// Default 0.1.
        beta: f64 = 0.1, Within(1e-4, 1e6);
    }
}

fn ipo(config: &IpoConfig, pair: &Pair) -> Dual64 {
    (mean_margin(pair) - 0.5 / config.beta).powi(2)
}
