//! Weighted sums of objectives.

use std::collections::BTreeMap;
use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Component, ComponentError, Granularity, ObjectiveBatch, ObjectiveValue,
    PreferenceObjective, Requirements, View, ViewLogProbs,
};
use isr_config::registry::ObjectiveConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds::{Bounds, Checked};
use crate::error::ObjectiveError;

/// Weighted sum of objectives, each with its own settings, like TRL's `loss_type` and `loss_weights` (MPO,
/// arXiv 2411.10442). Logs the metrics of its parts (of two with the same name, the first part's) and each
/// part's loss as `loss.1_NAME`, `loss.2_NAME` and so on.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MixConfig {
    /// Parts of the sum: tables of `weight`, `type` and the objective's settings; at least one weight must be
    /// above 0. Default: MPO's 0.8 `dpo`, 0.2 `bco_pair`, 1 `sft`.
    pub parts: Vec<MixPart>,
}

/// One part of a [`MixConfig`].
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct MixPart {
    /// Factor of the part's loss; at least 0. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Config of the objective: `type` and its settings, beside `weight` in the same table.
    #[serde(flatten)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub objective: Box<dyn ObjectiveConfig>,
}

fn one() -> f64 {
    1.0
}

impl Default for MixConfig {
    fn default() -> Self {
        let part = |weight, objective| MixPart { weight, objective };
        let parts = vec![
            part(0.8, Box::<crate::DpoConfig>::default() as Box<dyn ObjectiveConfig>),
            part(0.2, Box::<crate::BcoPairConfig>::default()),
            part(1.0, Box::<crate::SftConfig>::default()),
        ];
        Self { parts }
    }
}

impl Component for MixConfig {
    type Built = Arc<dyn PreferenceObjective>;

    fn validate(&self) -> Result<(), String> {
        for (index, MixPart { weight, objective }) in self.parts.iter().enumerate() {
            let at = |text: String| format!("parts[{index}] ({}): {text}", objective.name());
            weight.check("weight", Bounds::NotNegative).map_err(at)?;
            objective.validate().map_err(at)?;
        }
        match self.parts.iter().any(|part| part.weight > 0.0) {
            true => Ok(()),
            false => {
                Err("parts have no weight above 0; name at least one objective to train by".to_owned())
            }
        }
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        let build = |(index, part): (usize, &MixPart)| {
            let name = format!("loss.{}_{}", index + 1, part.objective.name());
            Ok(Part { name, weight: part.weight, objective: part.objective.build(cx)? })
        };
        let parts = self.parts.iter().enumerate().map(build).collect::<Result<_, Cause>>()?;
        Ok(Arc::new(Mix { parts }))
    }
}

isr_config::register!(Objective "mix" => MixConfig, example = "\
parts = [
    { weight = 0.8, type = \"dpo\", beta = 0.1 },
    { weight = 0.2, type = \"bco_pair\", beta = 0.1 },
    { weight = 1.0, type = \"sft\" },
]
");

struct Part {
    name: String,
    weight: f64,
    objective: Arc<dyn PreferenceObjective>,
}

struct Mix {
    parts: Vec<Part>,
}

impl PreferenceObjective for Mix {
    fn requirements(&self) -> Requirements {
        let all: Vec<Requirements> = self.parts.iter().map(|part| part.objective.requirements()).collect();
        let mut views: Vec<View> = all.iter().flat_map(|needs| needs.views.iter().copied()).collect();
        views.sort_unstable();
        views.dedup();
        let tokens = all.iter().any(|needs| needs.granularity == Granularity::PerToken);
        Requirements {
            views,
            granularity: if tokens { Granularity::PerToken } else { Granularity::Summed },
            reference: all.iter().any(|needs| needs.reference),
            across_batch: all.iter().any(|needs| needs.across_batch),
        }
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let needs = self.requirements();
        let tokens = needs.granularity == Granularity::PerToken;
        if tokens {
            check_layout(batch, needs.reference)?;
        }
        let mut loss = 0.0;
        let mut gradients: Vec<Vec<f64>> =
            batch.views.iter().map(|view| vec![0.0; view.policy.len()]).collect();
        let mut metrics = BTreeMap::new();
        for part in &self.parts {
            let needs = part.objective.requirements();
            let sums = tokens && needs.granularity == Granularity::Summed;
            let value = part.objective.evaluate(&batch_of_part(batch, &needs, sums))?;
            loss += part.weight * value.loss;
            for (view, gradient) in needs.views.iter().zip(&value.gradients) {
                let at = batch.views.iter().position(|candidate| candidate.view == *view);
                let Some(at) = at else { continue };
                let gradient = if sums {
                    broadcast_to_tokens(gradient, &batch.views[at].lengths)
                } else {
                    gradient.clone()
                };
                gradients[at].iter_mut().zip(gradient).for_each(|(sum, slope)| *sum += part.weight * slope);
            }
            metrics.insert(part.name.clone(), value.loss);
            value.metrics.into_iter().for_each(|(name, mean)| {
                metrics.entry(name).or_insert(mean);
            });
        }
        Ok(ObjectiveValue { loss, gradients, metrics })
    }
}

/// Checks that every view has one log-prob per token, as the sums over tokens rely on it.
fn check_layout(batch: &ObjectiveBatch, needs_reference: bool) -> Result<(), ObjectiveError> {
    for ViewLogProbs { view, policy, reference, lengths } in &batch.views {
        let expected = lengths.iter().sum();
        let (view, got) = (*view, policy.len());
        if got != expected {
            return Err(ObjectiveError::Length { view, what: "policy", expected, got });
        }
        if needs_reference && reference.len() != expected {
            return Err(ObjectiveError::Length { view, what: "reference", expected, got: reference.len() });
        }
    }
    Ok(())
}

/// The views that a part requires, in its order and, if `sums`, summed over tokens.
fn batch_of_part(batch: &ObjectiveBatch, needs: &Requirements, sums: bool) -> ObjectiveBatch {
    let found = |view: &View| batch.views.iter().find(|candidate| candidate.view == *view);
    let of_part = |view: &ViewLogProbs| {
        let mut view = view.clone();
        if sums {
            view.policy = summed(&view.policy, &view.lengths);
            view.reference =
                if needs.reference { summed(&view.reference, &view.lengths) } else { Vec::new() };
        }
        view
    };
    ObjectiveBatch { views: needs.views.iter().filter_map(found).map(of_part).collect() }
}

/// Sums over the tokens of each answer.
fn summed(tokens: &[f64], lengths: &[usize]) -> Vec<f64> {
    let mut rest = tokens.iter();
    lengths.iter().map(|&length| rest.by_ref().take(length).sum()).collect()
}

/// Derivatives by token log-probs from derivatives by their sums.
fn broadcast_to_tokens(slopes: &[f64], lengths: &[usize]) -> Vec<f64> {
    slopes.iter().zip(lengths).flat_map(|(&slope, &length)| std::iter::repeat_n(slope, length)).collect()
}
