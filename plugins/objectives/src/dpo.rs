//! Direct preference optimisation.
//!
//! With `h = (log pi(y_w) - log ref(y_w)) - (log pi(y_l) - log ref(y_l))`, the log-ratio of the chosen
//! answer minus that of the rejected one, the loss of a pair is
//!
//! ```text
//! -(1 - eps) log sigmoid(beta h) - eps log sigmoid(-beta h)
//! ```
//!
//! where log-probs are sums over the answer's tokens. `eps = 0` is DPO (arXiv 2305.18290, equation 7;
//! TRL's loss type `sigmoid`). `eps > 0` is conservative DPO, for labels that are wrong with that
//! probability (E. Mitchell, "A note on DPO with noisy preferences and relationship to IPO", 2023,
//! <https://ericmitchell.ai/cdpo.pdf>, equation 3). TRL's `DPOTrainer` dropped the latter from `sigmoid`
//! in its 1.x versions; `trl.experimental.cpo` 1.16.0 still has it, and the golden test uses that.
//! The derivative by h is `beta (eps sigmoid(beta h) - (1 - eps) sigmoid(-beta h))`.

use std::sync::Arc;

use isr_core::registry::{BuildContext, Component};
use isr_core::{
    Cause, ComponentError, Granularity, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements,
    View, ViewLogProbs,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pairs::{checked, gradients, means};
use crate::stable::{sigmoid, softplus};

/// Direct preference optimisation (arXiv 2305.18290). Logs `chosen_reward`, `rejected_reward`,
/// `reward_margin` (log-ratios to the reference, times beta), `accuracy` (share of pairs with a positive
/// margin), `logps_chosen` and `logps_rejected`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DpoConfig {
    /// Strength of the pull towards the reference, per nat of log-ratio; more than 0. Default 0.1.
    pub beta: f64,
    /// Assumed share of pairs whose label is wrong (cDPO), in [0, 0.5). Default 0.
    pub label_smoothing: f64,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self { beta: 0.1, label_smoothing: 0.0 }
    }
}

impl Component for DpoConfig {
    type Built = Arc<dyn PreferenceObjective>;

    fn validate(&self) -> Result<(), String> {
        let Self { beta, label_smoothing } = *self;
        // The upper bound keeps beta * log-ratio, and the gradient, far from overflow.
        if !(beta > 0.0 && beta <= 1e6) {
            return Err(format!("beta is {beta}; it must be more than 0 (and at most 1e6)"));
        }
        if !(0.0..0.5).contains(&label_smoothing) {
            return Err(format!("label_smoothing is {label_smoothing}; it must be in [0, 0.5)"));
        }
        Ok(())
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Dpo { config: self.clone() }))
    }
}

isr_core::register!(Objective "dpo" => DpoConfig, example = "beta = 0.1\nlabel_smoothing = 0.0\n");

/// The objective that [`DpoConfig`] builds.
#[derive(Debug, Clone)]
pub struct Dpo {
    config: DpoConfig,
}

impl PreferenceObjective for Dpo {
    fn requirements(&self) -> Requirements {
        Requirements {
            views: vec![View::Chosen, View::Rejected],
            granularity: Granularity::Summed,
            reference: true,
        }
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let DpoConfig { beta, label_smoothing } = self.config;
        let chosen = checked(batch, View::Chosen, Granularity::Summed, true)?;
        let rejected = checked(batch, View::Rejected, Granularity::Summed, true)?;
        let (wins, losses) = (rewards(chosen, beta), rewards(rejected, beta));
        let margins: Vec<f64> = wins.iter().zip(&losses).map(|(win, loss)| win - loss).collect();

        let pairs = margins.len() as f64;
        let loss = margins.iter().map(|&margin| pair_loss(margin, label_smoothing)).sum::<f64>() / pairs;
        let slope = |&margin: &f64| beta * pair_slope(margin, label_smoothing) / pairs;
        let by_chosen: Vec<f64> = margins.iter().map(slope).collect();
        let by_rejected = by_chosen.iter().map(|slope| -slope).collect();

        let accuracy = margins.iter().map(|&margin| f64::from(u8::from(margin > 0.0))).collect();
        let metrics = means([
            ("chosen_reward", wins),
            ("rejected_reward", losses),
            ("reward_margin", margins),
            ("accuracy", accuracy),
            ("logps_chosen", chosen.policy.clone()),
            ("logps_rejected", rejected.policy.clone()),
        ]);
        let gradients = gradients(batch, [(View::Chosen, by_chosen), (View::Rejected, by_rejected)]);
        Ok(ObjectiveValue { loss, gradients, metrics })
    }
}

/// beta times the log-ratio of policy and reference, one number a pair.
fn rewards(view: &ViewLogProbs, beta: f64) -> Vec<f64> {
    view.policy.iter().zip(&view.reference).map(|(policy, reference)| beta * (policy - reference)).collect()
}

fn pair_loss(margin: f64, label_smoothing: f64) -> f64 {
    (1.0 - label_smoothing) * softplus(-margin) + label_smoothing * softplus(margin)
}

/// Derivative of [`pair_loss`] by the margin.
fn pair_slope(margin: f64, label_smoothing: f64) -> f64 {
    label_smoothing * sigmoid(margin) - (1.0 - label_smoothing) * sigmoid(-margin)
}
