//! A whole training step: parameters of `train_step` and its reply. For a policy that computes gradients of an objective itself,
//! which it asks for by `evaluate`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MessageError, Number, RequirementsMessage, TurnMessage};
use crate::objective::Requirements;
use crate::policy::{Continuation, PromptedTarget, StepReport, Target, TrainExample, TrainStep};
use crate::prompt::Prompt;

/// A continuation to train on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetMessage {
    /// The continuation.
    pub continuation: Continuation,
    /// Log-probs of its tokens under the reference policy, where they are known.
    pub reference: Option<Vec<f32>>,
}

impl From<Target> for TargetMessage {
    fn from(target: Target) -> Self {
        Self { continuation: target.continuation, reference: target.reference }
    }
}

impl From<TargetMessage> for Target {
    fn from(message: TargetMessage) -> Self {
        Self { continuation: message.continuation, reference: message.reference }
    }
}

/// A continuation to train on, after a prompt of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptedMessage<V> {
    /// The conversation.
    pub prompt: Vec<TurnMessage<V>>,
    /// The continuation.
    pub target: TargetMessage,
}

/// A training example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(deserialize = "V: Deserialize<'de>"))]
pub struct ExampleMessage<V> {
    /// The conversation.
    pub prompt: Vec<TurnMessage<V>>,
    /// The preferred answer.
    pub chosen: TargetMessage,
    /// The dispreferred answer; none for a demonstration.
    pub rejected: Option<TargetMessage>,
    /// The preferred answer after the prompt with a corrupted video, where the objective requires it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrupted: Option<PromptedMessage<V>>,
    /// Another pair's answer, where the objective requires it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatched: Option<TargetMessage>,
}

/// A [`TrainStep`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainMessage<V> {
    /// The batch.
    pub examples: Vec<ExampleMessage<V>>,
    /// Optimiser step, from 0.
    pub step: u64,
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Gradient clipping: largest L2 norm.
    pub max_grad_norm: Option<f64>,
    /// Seed of the step's random draws; 0 from a sender that has none.
    #[serde(default)]
    pub seed: u64,
}

impl<V> TrainMessage<V> {
    /// A step whose prompts cross as `turns` writes them.
    ///
    /// # Errors
    /// Those of `turns`.
    pub fn new<E>(
        step: TrainStep,
        mut turns: impl FnMut(&Prompt) -> Result<Vec<TurnMessage<V>>, E>,
    ) -> Result<Self, E> {
        let TrainStep { examples, step, learning_rate, max_grad_norm, seed } = step;
        let example = |it: TrainExample| {
            let prompt = turns(&it.prompt)?;
            let prompted = |own: PromptedTarget| {
                Ok::<_, E>(PromptedMessage { prompt: turns(&own.prompt)?, target: own.target.into() })
            };
            Ok(ExampleMessage {
                prompt,
                chosen: it.chosen.into(),
                rejected: it.rejected.map(TargetMessage::from),
                corrupted: it.corrupted.map(prompted).transpose()?,
                mismatched: it.mismatched.map(TargetMessage::from),
            })
        };
        let examples = examples.into_iter().map(example).collect::<Result<_, E>>()?;
        Ok(Self { examples, step, learning_rate, max_grad_norm, seed })
    }

    /// The step, whose prompts `prompt` reads.
    ///
    /// # Errors
    /// Those of `prompt`.
    pub fn into_step<E>(
        self,
        mut prompt: impl FnMut(Vec<TurnMessage<V>>) -> Result<Prompt, E>,
    ) -> Result<TrainStep, E> {
        let Self { examples, step, learning_rate, max_grad_norm, seed } = self;
        let example = |it: ExampleMessage<V>| {
            let of_pair = prompt(it.prompt)?;
            let prompted = |own: PromptedMessage<V>| {
                Ok::<_, E>(PromptedTarget { prompt: prompt(own.prompt)?, target: own.target.into() })
            };
            Ok(TrainExample {
                prompt: of_pair,
                chosen: it.chosen.into(),
                rejected: it.rejected.map(Target::from),
                corrupted: it.corrupted.map(prompted).transpose()?,
                mismatched: it.mismatched.map(Target::from),
            })
        };
        let examples = examples.into_iter().map(example).collect::<Result<_, E>>()?;
        Ok(TrainStep { examples, step, learning_rate, max_grad_norm, seed })
    }
}

/// Parameters of a process's `train_step`: a step with the requirements of its objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainCall<V> {
    /// The step.
    #[serde(flatten)]
    pub step: TrainMessage<V>,
    /// What the objective requires of `evaluate`.
    pub objective: RequirementsMessage,
}

impl<V> TrainCall<V> {
    /// A step on an objective that requires this.
    pub fn new(step: TrainMessage<V>, requirements: &Requirements) -> Self {
        Self { step, objective: requirements.into() }
    }

    /// The requirements.
    ///
    /// # Errors
    /// A view that is unknown or named twice.
    pub fn requirements(&self) -> Result<Requirements, MessageError> {
        self.objective.clone().try_into()
    }
}

/// Reply to a process's `train_step`: a [`StepReport`] with the fingerprint of the new weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainedMessage {
    /// Loss before the step, mean over the batch.
    pub loss: Number,
    /// Global L2 norm of the gradient before clipping.
    pub grad_norm: Number,
    /// Completion tokens in the loss.
    pub tokens: u64,
    /// Figures for the training log, means over the batch; default none.
    #[serde(default)]
    pub metrics: BTreeMap<String, Number>,
    /// Fingerprint of the weights after the step.
    pub fingerprint: String,
}

impl TrainedMessage {
    /// A report of a step after which the weights have this fingerprint.
    pub fn new(report: StepReport, fingerprint: impl Into<String>) -> Self {
        let StepReport { loss, grad_norm, tokens, metrics } = report;
        let metrics = metrics.into_iter().map(|(name, number)| (name, Number(number))).collect();
        let (loss, grad_norm) = (Number(loss), Number(grad_norm));
        Self { loss, grad_norm, tokens, metrics, fingerprint: fingerprint.into() }
    }

    /// The report, and the fingerprint.
    pub fn into_report(self) -> (StepReport, String) {
        let Self { loss, grad_norm, tokens, metrics, fingerprint } = self;
        let metrics = metrics.into_iter().map(|(name, number)| (name, number.0)).collect();
        (StepReport { loss: loss.0, grad_norm: grad_norm.0, tokens, metrics }, fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::View;

    fn target(text: &str) -> Target {
        Target { continuation: Continuation::Answer(text.to_owned()), reference: Some(vec![-0.25, -0.1]) }
    }

    #[test]
    fn all_of_a_step_comes_out_as_it_went_in() {
        let own = PromptedTarget { prompt: Prompt::text("blurred"), target: target("red") };
        let example = TrainExample {
            corrupted: Some(own),
            mismatched: Some(target("left")),
            ..TrainExample::new(Prompt::text("colour?"), target("red"), Some(target("blue")))
        };
        let demonstration = TrainExample::new(Prompt::text("colour?"), target("red"), None);
        let examples = vec![example, demonstration];
        let step = TrainStep { examples, step: 3, learning_rate: 0.1, max_grad_norm: Some(1.0), seed: 7 };
        let turns = |prompt: &Prompt| {
            let none = |_: &crate::video::VideoInput| super::super::PartMessage::Video(true);
            Ok::<_, MessageError>(super::super::prompt_to_turns(prompt, none))
        };
        let message = TrainMessage::new(step.clone(), turns).unwrap();
        let call = TrainCall::new(message, &Requirements::new([View::Chosen]).with_reference());
        let text = serde_json::to_string(&call).unwrap();
        let back: TrainCall<bool> = serde_json::from_str(&text).unwrap();
        assert!(back.requirements().unwrap().reference);
        let back = back.step.into_step(|turns| {
            super::super::prompt_from_turns(turns, &[], |_| Ok::<_, MessageError>(None))
        });
        assert_eq!(format!("{:?}", back.unwrap()), format!("{step:?}"));
    }

    #[test]
    fn figures_that_are_not_finite_cross_by_name() {
        let metrics = BTreeMap::from([("perplexity".to_owned(), f64::INFINITY)]);
        let report = StepReport { loss: f64::NAN, grad_norm: 2.0, tokens: 9, metrics };
        let text = serde_json::to_string(&TrainedMessage::new(report.clone(), "w1")).unwrap();
        let (back, fingerprint) = serde_json::from_str::<TrainedMessage>(&text).unwrap().into_report();
        assert!(back.loss.is_nan());
        assert_eq!((back.tokens, &back.metrics, fingerprint.as_str()), (9, &report.metrics, "w1"));
    }
}
