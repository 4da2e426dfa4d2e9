//! Alignment via optimal transport (AOT): the quantiles of a batch's two reward distributions are compared.
//!
//! The loss couples the pairs of a batch, so it is no mean of independent pair losses, and asks for the whole batch.

use isr_api::{
    BuildContext, Component, ComponentError, ObjectiveBatch, ObjectiveValue, PreferenceObjective,
    Requirements,
};
use num_dual::Dual64;

use crate::batch::means;
use crate::declare::pair_loss;
use crate::dpo::smoothed;
use crate::pair_batch::PairBatch;
use crate::spec::LossSpec;

macro_rules! transport {
    ($config:ident, $name:literal, $kind:ident) => {
        impl Component for $config {
            type Built = std::sync::Arc<dyn PreferenceObjective>;

            fn validate(&self) -> Result<(), String> {
                self.check()
            }

            fn build(&self, _: &BuildContext) -> Result<Self::Built, isr_api::Cause> {
                let Self { beta, label_smoothing, ld_alpha } = *self;
                Ok(std::sync::Arc::new(Transport { kind: Kind::$kind, beta, label_smoothing, ld_alpha }))
            }
        }

        isr_config::register!(Objective $name => $config, example = "beta = 0.1\n");
    };
}

pair_loss! { @config
    /// Alignment via optimal transport on paired data (AOT, arXiv 2406.05882). `-log sigmoid(beta d)` of each
    /// difference `d` between the batch's sorted log-ratios of chosen to rejected answer under the policy and
    /// those under the reference. Sorts the whole batch, whatever its micro-batches.
    AotConfig {
        /// Scale of the differences, per nat; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Assumed share of pairs with a wrong label, in [0, 0.5). Default 0.
        label_smoothing: f64 = 0.0, Below(0.0, 0.5);
        /// Weight of the tokens past the length of the shorter answer, in [0, 1] (LD-DPO). Default: none.
        #[serde(skip_serializing_if = "Option::is_none")]
        ld_alpha: Option<f64> = None, Within(0.0, 1.0);
    }
}

transport!(AotConfig, "aot", Paired);

pair_loss! { @config
    /// Alignment via optimal transport on unpaired data (AOT, arXiv 2406.05882). `-log sigmoid(beta d)` of
    /// each difference `d` between the batch's sorted log-ratios to the reference of chosen answers and those
    /// of rejected ones. Sorts the whole batch, whatever its micro-batches.
    AotUnpairedConfig {
        /// Scale of the differences, per nat; more than 0. Default 0.1.
        beta: f64 = 0.1, Positive;
        /// Assumed share of pairs with a wrong label, in [0, 0.5). Default 0.
        label_smoothing: f64 = 0.0, Below(0.0, 0.5);
        /// Weight of the tokens past the length of the shorter answer, in [0, 1] (LD-DPO). Default: none.
        #[serde(skip_serializing_if = "Option::is_none")]
        ld_alpha: Option<f64> = None, Within(0.0, 1.0);
    }
}

transport!(AotUnpairedConfig, "aot_unpaired", Unpaired);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Paired,
    Unpaired,
}

#[derive(Debug, Clone)]
struct Transport {
    kind: Kind,
    beta: f64,
    label_smoothing: f64,
    ld_alpha: Option<f64>,
}

impl Transport {
    fn spec(&self) -> LossSpec {
        LossSpec { beta: self.beta, ld_alpha: self.ld_alpha, ..LossSpec::default() }
    }
}

impl PreferenceObjective for Transport {
    fn requirements(&self) -> Requirements {
        self.spec().requirements().across_batch()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let pair_batch = PairBatch::new(batch, &self.spec())?;
        let (chosen, rejected) = (&pair_batch.chosen, &pair_batch.rejected);
        let pairs = pair_batch.pairs();
        let (first, second) = match self.kind {
            Kind::Paired => {
                (minus(&chosen.policy, &rejected.policy), minus(&chosen.reference, &rejected.reference))
            }
            Kind::Unpaired => {
                (minus(&chosen.policy, &chosen.reference), minus(&rejected.policy, &rejected.reference))
            }
        };
        let mut loss = 0.0;
        let (mut by_first, mut by_second) = (vec![0.0; pairs], vec![0.0; pairs]);
        for (here, there) in ascending(&first).into_iter().zip(ascending(&second)) {
            let difference = Dual64::from_re(first[here] - second[there]).derivative();
            let value = smoothed(difference * self.beta, self.label_smoothing) / pairs as f64;
            loss += value.re;
            by_first[here] = value.eps;
            by_second[there] = -value.eps;
        }
        // Paired: the reference's list has no gradient, and the rejected answer's is the chosen one's, negated.
        let by_rejected = match self.kind {
            Kind::Paired => by_first.iter().map(|slope| -slope).collect(),
            Kind::Unpaired => by_second,
        };
        let gradients = pair_batch.gradients(batch, &by_first, &by_rejected);
        Ok(ObjectiveValue { loss, gradients, metrics: means(pair_batch.metrics(&self.spec())) })
    }
}

fn minus(left: &[f64], right: &[f64]) -> Vec<f64> {
    left.iter().zip(right).map(|(left, right)| left - right).collect()
}

/// Indices in ascending order of their values (stable sort).
fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&left, &right| values[left].total_cmp(&values[right]));
    order
}
