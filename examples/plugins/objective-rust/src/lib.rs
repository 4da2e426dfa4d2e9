//! An objective in a native library: the squared hinge of the margin, against a reference.

use std::collections::BTreeMap;
use std::sync::Arc;

use isr_plugin::{
    BuildContext, Cause, Component, ComponentError, ObjectiveBatch, ObjectiveValue,
    PreferenceObjective, Requirements, View, ViewLogProbs,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Squared hinge of the margin: `max(0, 1 - beta * h)^2`, where `h` is the log-ratio of the chosen answer
/// less that of the rejected one, each against the reference. The squared form of SLiC (arXiv 2305.10425).
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SquaredHingeConfig {
    /// Strength of the pull to the reference, more than 0. Default 0.1.
    pub beta: f64,
}

impl Default for SquaredHingeConfig {
    fn default() -> Self {
        Self { beta: 0.1 }
    }
}

impl Component for SquaredHingeConfig {
    type Built = Arc<dyn PreferenceObjective>;

    fn validate(&self) -> Result<(), String> {
        match self.beta > 0.0 && self.beta.is_finite() {
            true => Ok(()),
            false => Err(format!("beta is {}; it must be more than 0", self.beta)),
        }
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(SquaredHinge { beta: self.beta }))
    }
}

struct SquaredHinge {
    beta: f64,
}

/// The log-ratio of each pair, where the numbers are as many as the pairs.
fn ratios(view: &ViewLogProbs, pairs: usize) -> Result<Vec<f64>, ComponentError> {
    if [view.policy.len(), view.reference.len(), view.lengths.len()] != [pairs; 3] {
        let text = format!("log-probs of {:?} are not as many as the {pairs} pairs", view.view);
        return Err(ComponentError::failed(text));
    }
    Ok(view.policy.iter().zip(&view.reference).map(|(policy, reference)| policy - reference).collect())
}

impl PreferenceObjective for SquaredHinge {
    fn requirements(&self) -> Requirements {
        Requirements::new([View::Chosen, View::Rejected]).with_reference()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let pairs = batch.pairs();
        let chosen = ratios(batch.view(View::Chosen)?, pairs)?;
        let rejected = ratios(batch.view(View::Rejected)?, pairs)?;
        let count = pairs.max(1) as f64;
        let margins: Vec<f64> =
            chosen.iter().zip(&rejected).map(|(one, other)| self.beta * (one - other)).collect();
        let short = |margin: &f64| (1.0 - margin).max(0.0);
        let slope: Vec<f64> = margins.iter().map(|it| -2.0 * self.beta * short(it) / count).collect();
        let mean = |numbers: &mut dyn Iterator<Item = f64>| numbers.sum::<f64>() / count;
        Ok(ObjectiveValue {
            loss: mean(&mut margins.iter().map(|margin| short(margin).powi(2))),
            gradients: vec![slope.clone(), slope.iter().map(|number| -number).collect()],
            metrics: BTreeMap::from([
                ("reward_margin".to_owned(), mean(&mut margins.iter().copied())),
                ("accuracy".to_owned(), mean(&mut margins.iter().map(|it| f64::from(u8::from(*it > 0.0))))),
            ]),
        })
    }
}

isr_plugin::export! {
    Objective "squared_hinge" => SquaredHingeConfig, example = "beta = 0.1\n";
}
