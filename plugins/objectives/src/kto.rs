//! Kahneman-Tversky optimisation (KTO): each answer's reward against a KL estimate.
//!
//! The KL divergence from the reference is estimated from mismatched answers: answers of other pairs after this
//! pair's prompt. All pairs of a batch share the estimate, whatever its micro-batches; in TRL those of a micro-batch on all
//! processes do.

use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Component, ComponentError, Granularity, ObjectiveBatch, ObjectiveValue,
    PreferenceObjective, Requirements, View,
};
use num_dual::Dual64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::{checked, means};
use crate::declare::pair_loss;
use crate::numerics::sigmoid;
use crate::pair_batch::PairBatch;
use crate::spec::LossSpec;

/// Reference point of KTO's loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KtoLoss {
    /// Estimated KL divergence from the reference.
    #[default]
    Kto,
    /// Zero (APO-zero, arXiv 2408.06266). Requires no mismatched answers.
    ApoZeroUnpaired,
}

pair_loss! { @config
    /// Kahneman-Tversky optimisation (KTO, arXiv 2402.01306, equation 8), as TRL's `KTOTrainer`. With `u` an
    /// answer's log-ratio to the reference, the mean of `desirable_weight sigmoid(beta (k - u_chosen))` and
    /// `undesirable_weight sigmoid(beta (u_rejected - k))`. `k` estimates the KL divergence from the
    /// reference: the mean log-ratio of mismatched answers, clamped to at least 0, without gradient, over the
    /// whole batch. Logs it as `kl`.
    KtoConfig {
        /// Scale of the rewards, per nat of log-ratio; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Reference point: `kto`, or `apo_zero_unpaired`, whose `k` is 0. Default `kto`.
        loss_type: KtoLoss = KtoLoss::Kto, Any;
        /// Loss weight of chosen answers; at least 0. Default 1.
        desirable_weight: f64 = 1.0, NotNegative;
        /// Loss weight of rejected answers; at least 0. Default 1.
        undesirable_weight: f64 = 1.0, NotNegative;
    }
}

impl Component for KtoConfig {
    type Built = Arc<dyn PreferenceObjective>;

    fn validate(&self) -> Result<(), String> {
        self.check()
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Kto(self.clone())))
    }
}

isr_config::register!(Objective "kto" => KtoConfig, example = "beta = 0.1\n");

struct Kto(KtoConfig);

impl Kto {
    fn spec(&self) -> LossSpec {
        LossSpec { beta: self.0.beta, ..LossSpec::default() }
    }

    /// Estimated KL divergence from the reference, in nats; 0 for `apo_zero_unpaired`.
    fn divergence(&self, batch: &ObjectiveBatch) -> Result<f64, ComponentError> {
        if self.0.loss_type == KtoLoss::ApoZeroUnpaired {
            return Ok(0.0);
        }
        let others = checked(batch, View::Mismatched, Granularity::Summed, true)?;
        let ratios =
            others.policy.iter().zip(&others.reference).map(|(policy, reference)| policy - reference);
        Ok((ratios.sum::<f64>() / others.policy.len() as f64).max(0.0))
    }
}

impl PreferenceObjective for Kto {
    fn requirements(&self) -> Requirements {
        let mut wanted = self.spec().requirements();
        if self.0.loss_type == KtoLoss::Kto {
            wanted.views.push(View::Mismatched);
            wanted.across_batch = true;
        }
        wanted
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let KtoConfig { beta, desirable_weight, undesirable_weight, .. } = self.0;
        let spec = self.spec();
        let pair_batch = PairBatch::new(batch, &spec)?;
        let divergence = self.divergence(batch)?;
        let pairs = pair_batch.pairs();
        let mut loss = 0.0;
        let (mut by_chosen, mut by_rejected) = (Vec::new(), Vec::new());
        for pair in 0..pairs {
            let ratio = |policy: f64, reference: f64| Dual64::from_re(policy - reference).derivative();
            let win = ratio(pair_batch.chosen.policy[pair], pair_batch.chosen.reference[pair]);
            let defeat = ratio(pair_batch.rejected.policy[pair], pair_batch.rejected.reference[pair]);
            // The mean is over answers, two per pair.
            let share = 0.5 / pairs as f64;
            let win = sigmoid(-(win - divergence) * beta) * desirable_weight * share;
            let defeat = sigmoid((defeat - divergence) * beta) * undesirable_weight * share;
            loss += win.re + defeat.re;
            by_chosen.push(win.eps);
            by_rejected.push(defeat.eps);
        }
        let gradients = pair_batch.gradients(batch, &by_chosen, &by_rejected);
        let mut metrics = means(pair_batch.metrics(&spec));
        if self.0.loss_type == KtoLoss::Kto {
            metrics.insert("kl".to_owned(), divergence);
        }
        Ok(ObjectiveValue { loss, gradients, metrics })
    }
}
