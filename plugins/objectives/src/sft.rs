//! Supervised fine-tuning: the negative log-likelihood of the chosen answer.
//!
//! The loss of an example is the mean over its answer's tokens; the loss of a batch is the mean over
//! examples. It does not depend on how a batch is split into micro-batches, as [`PreferenceObjective`]
//! requires, and a one-token verdict has the same weight as a long description. TRL and transformers average
//! over all tokens of a batch instead; both agree if all answers have the same length.

use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Component, ComponentError, Granularity, ObjectiveBatch, ObjectiveValue,
    PreferenceObjective, Requirements, View,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::{checked, expect_tokens, gradients, means};

/// Supervised fine-tuning: the negative log-likelihood of the chosen answer, in nats. A mean over the
/// answer's tokens and then over examples. Requires no reference and no rejected answer. Logs `nll` and
/// `logps_chosen` (summed over the answer).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {}

impl Component for SftConfig {
    type Built = Arc<dyn PreferenceObjective>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Sft {}))
    }
}

isr_config::register!(Objective "sft" => SftConfig, example = "");

/// Objective built by [`SftConfig`].
#[derive(Debug, Clone)]
pub struct Sft {}

impl PreferenceObjective for Sft {
    fn requirements(&self) -> Requirements {
        Requirements::new([View::Chosen]).per_token()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let chosen = checked(batch, View::Chosen, Granularity::PerToken, false)?;
        expect_tokens(View::Chosen, &chosen.lengths)?;
        let examples = chosen.lengths.len() as f64;
        let (mut nlls, mut sums, mut gradient) = (Vec::new(), Vec::new(), Vec::new());
        let mut rest = chosen.policy.as_slice();
        for &length in &chosen.lengths {
            let (answer, after) = rest.split_at(length);
            let sum: f64 = answer.iter().sum();
            nlls.push(-sum / length as f64);
            sums.push(sum);
            gradient.extend(std::iter::repeat_n(-1.0 / (examples * length as f64), length));
            rest = after;
        }
        let loss = nlls.iter().sum::<f64>() / examples;
        let metrics = means([("nll", nlls), ("logps_chosen", sums)]);
        let gradients = gradients(batch, [(View::Chosen, gradient)]);
        Ok(ObjectiveValue { loss, gradients, metrics })
    }
}
