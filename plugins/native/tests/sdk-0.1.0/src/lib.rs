//! A judge that asks the policy, and an objective.

use std::collections::BTreeMap;
use std::sync::Arc;

use isr_plugin::{BuildContext, Cause, Component, ComponentError, Continuation, FrozenPolicy, Granularity, Judge, JudgeCase, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Prompt, Requirements, ScoreRequest, Verdict, View, Vote, async_trait, tracing};
use schemars::JsonSchema;
use serde::Deserialize;

/// Compares how likely the policy finds the word that names the better answer, in both orders.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct LikelierConfig {
    /// Divides the log-odds, more than 0. Default 1.
    temperature: f64,
}

impl Default for LikelierConfig {
    fn default() -> Self {
        Self { temperature: 1.0 }
    }
}

impl Component for LikelierConfig {
    type Built = Arc<dyn Judge>;

    fn validate(&self) -> Result<(), String> {
        match self.temperature > 0.0 {
            true => Ok(()),
            false => Err(format!("temperature is {}; it must be more than 0", self.temperature)),
        }
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Likelier(self.temperature)))
    }
}

struct Likelier(f64);

#[async_trait]
impl Judge for Likelier {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let mut votes = Vec::new();
        for first_shown_first in [true, false] {
            let shown = if first_shown_first { case.clone() } else { case.swapped() };
            let text = format!(
                "{}\nA: {}\nB: {}\nA or B?",
                shown.instruction, shown.first.text, shown.second.text
            );
            let prompt = Prompt::about(&shown.scene, text);
            let continuations = ["A", "B"].map(|word| Continuation::Opening(word.to_owned())).to_vec();
            let scored = policy.score(ScoreRequest { prompt, continuations }).await?;
            let p = 1.0 / (1.0 + ((scored[1].sum() - scored[0].sum()) / self.0).exp());
            votes.push(Vote { first_shown_first, p_first: if first_shown_first { p } else { 1.0 - p } });
        }
        tracing::info!(votes = votes.len(), "judged by a plugin of 0.1.0");
        Ok(Verdict::from_votes(votes))
    }
}

/// The mean of `max(0, 1 - margin)^2`, without a reference.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MarginConfig {}

impl Component for MarginConfig {
    type Built = Arc<dyn PreferenceObjective>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Margin))
    }
}

struct Margin;

impl PreferenceObjective for Margin {
    fn requirements(&self) -> Requirements {
        let views = vec![View::Chosen, View::Rejected];
        Requirements { views, granularity: Granularity::Summed, reference: false }
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let (chosen, rejected) = (batch.view(View::Chosen)?, batch.view(View::Rejected)?);
        if chosen.policy.len() != batch.pairs() || rejected.policy.len() != batch.pairs() {
            return Err(ComponentError::failed("a pair lacks a log-prob"));
        }
        let pairs = batch.pairs() as f64;
        let short = |(chosen, rejected): (&f64, &f64)| (1.0 - (chosen - rejected)).max(0.0);
        let short: Vec<f64> = chosen.policy.iter().zip(&rejected.policy).map(short).collect();
        let gradient: Vec<f64> = short.iter().map(|it| -2.0 * it / pairs).collect();
        Ok(ObjectiveValue {
            loss: short.iter().map(|it| it * it).sum::<f64>() / pairs,
            gradients: vec![gradient.clone(), gradient.iter().map(|it| -it).collect()],
            metrics: BTreeMap::from([("short".to_owned(), short.iter().sum::<f64>() / pairs)]),
        })
    }
}

isr_plugin::export! {
    Judge "likelier" => LikelierConfig, example = "temperature = 1.0\n";
    Objective "margin" => MarginConfig, example = "";
}
