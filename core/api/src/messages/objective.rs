//! Requirements, batches and values of objectives.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MessageError, Number, view_named, view_names};
use crate::objective::{Granularity, ObjectiveBatch, ObjectiveValue, Requirements, View, ViewLogProbs};

/// [`Granularity`] by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GranularityMessage {
    /// One number a pair.
    Summed,
    /// One number a token.
    PerToken,
}

/// Reply to `requirements`: [`Requirements`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequirementsMessage {
    /// [`View::name`]s, in the order in which they are handed over; one or more, each once.
    pub views: Vec<String>,
    /// The granularity. Required where `per_token` is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub granularity: Option<GranularityMessage>,
    /// The granularity as SDK 0.1 of native libraries writes and reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_token: Option<bool>,
    /// Whether the reference policy's log-probs are needed.
    pub reference: bool,
    /// Whether the loss compares the pairs of a batch with each other; absent where it does not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub across_batch: bool,
}

impl From<&Requirements> for RequirementsMessage {
    fn from(required: &Requirements) -> Self {
        let granularity = match required.granularity {
            Granularity::Summed => GranularityMessage::Summed,
            Granularity::PerToken => GranularityMessage::PerToken,
        };
        Self {
            views: required.views.iter().map(|view| view.name().to_owned()).collect(),
            granularity: Some(granularity),
            per_token: None,
            reference: required.reference,
            across_batch: required.across_batch,
        }
    }
}

impl RequirementsMessage {
    /// The same with `per_token`, for readers of SDK 0.1.
    #[must_use]
    pub fn with_per_token(self) -> Self {
        let per_token = self.granularity.map(|it| it == GranularityMessage::PerToken);
        Self { per_token, ..self }
    }
}

impl TryFrom<RequirementsMessage> for Requirements {
    type Error = MessageError;

    fn try_from(message: RequirementsMessage) -> Result<Self, MessageError> {
        let views: Vec<View> =
            message.views.iter().map(|name| view_named(name)).collect::<Result<_, _>>()?;
        let twice = (1..views.len()).any(|index| views[..index].contains(&views[index]));
        if views.is_empty() || twice {
            let text = format!("`views` must name one or more of {}, each once", view_names());
            return Err(MessageError::new(text));
        }
        let granularity = match (message.granularity, message.per_token) {
            (Some(GranularityMessage::Summed), _) | (None, Some(false)) => Granularity::Summed,
            (Some(GranularityMessage::PerToken), _) | (None, Some(true)) => Granularity::PerToken,
            (None, None) => return Err(MessageError::new("missing field `granularity`")),
        };
        let RequirementsMessage { reference, across_batch, .. } = message;
        Ok(Self { views, granularity, reference, across_batch })
    }
}

/// Parameters of `evaluate`: an [`ObjectiveBatch`]. `N` is an array of `f64`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchMessage<N> {
    /// One entry a required view, in the required order.
    pub views: Vec<ViewMessage<N>>,
}

/// Log-probs of one view, laid out as [`ViewLogProbs`] says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ViewMessage<N> {
    /// Its [`View::name`].
    pub view: String,
    /// Log-probs under the policy.
    pub policy: N,
    /// Log-probs under the reference policy; empty where not required.
    pub reference: N,
    /// Tokens of each pair's answer.
    pub lengths: Vec<usize>,
}

impl<N> BatchMessage<N> {
    /// A batch whose arrays cross as `array` writes them.
    ///
    /// # Errors
    /// Those of `array`.
    pub fn new<E>(
        batch: &ObjectiveBatch,
        mut array: impl FnMut(View, &[f64]) -> Result<N, E>,
    ) -> Result<Self, E> {
        let view = |it: &ViewLogProbs| {
            Ok(ViewMessage {
                view: it.view.name().to_owned(),
                policy: array(it.view, &it.policy)?,
                reference: array(it.view, &it.reference)?,
                lengths: it.lengths.clone(),
            })
        };
        Ok(Self { views: batch.views.iter().map(view).collect::<Result<_, E>>()? })
    }

    /// The batch, whose arrays `array` reads.
    ///
    /// # Errors
    /// An unknown view, and those of `array`.
    pub fn into_batch<E: From<MessageError>>(
        self,
        mut array: impl FnMut(N) -> Result<Vec<f64>, E>,
    ) -> Result<ObjectiveBatch, E> {
        let view = |it: ViewMessage<N>| {
            Ok(ViewLogProbs {
                view: view_named(&it.view)?,
                policy: array(it.policy)?,
                reference: array(it.reference)?,
                lengths: it.lengths,
            })
        };
        Ok(ObjectiveBatch { views: self.views.into_iter().map(view).collect::<Result<_, E>>()? })
    }
}

impl BatchMessage<Vec<f64>> {
    /// A batch whose arrays stand in the JSON.
    ///
    /// # Errors
    /// A number that JSON lacks.
    pub fn inline(batch: &ObjectiveBatch) -> Result<Self, MessageError> {
        Self::new(batch, |view, numbers| match numbers.iter().find(|number| !number.is_finite()) {
            Some(number) => {
                Err(MessageError::new(format!("the log-probs of {view:?} have the number {number}")))
            }
            None => Ok(numbers.to_vec()),
        })
    }
}

/// Reply to `evaluate`: an [`ObjectiveValue`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValueMessage {
    /// The loss, a mean over pairs.
    pub loss: Number,
    /// Gradient by each view's policy log-probs. Absent where gradients cross as blobs, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradients: Option<Vec<Vec<f64>>>,
    /// Figures for the training log, means over pairs; default none.
    #[serde(default)]
    pub metrics: BTreeMap<String, Number>,
}

impl ValueMessage {
    /// A value whose gradients cross beside the message.
    pub fn without_gradients(value: &ObjectiveValue) -> Self {
        let metrics = value.metrics.iter().map(|(name, number)| (name.clone(), Number(*number)));
        Self { loss: Number(value.loss), gradients: None, metrics: metrics.collect() }
    }

    /// A value whose gradients stand in the JSON.
    ///
    /// # Errors
    /// A number that JSON lacks.
    pub fn inline(value: &ObjectiveValue) -> Result<Self, MessageError> {
        let message = Self { gradients: Some(value.gradients.clone()), ..Self::without_gradients(value) };
        message.check_finite()?;
        Ok(message)
    }

    /// The value, with gradients that crossed beside the message.
    pub fn with_gradients(self, gradients: Vec<Vec<f64>>) -> ObjectiveValue {
        let metrics = self.metrics.into_iter().map(|(name, number)| (name, number.0)).collect();
        ObjectiveValue { loss: self.loss.0, gradients, metrics }
    }

    /// The value on `batch`, with the gradients that stand in the message.
    ///
    /// # Errors
    /// No gradients, gradients of other lengths than the batch's log-probs, or a number that is not finite.
    pub fn into_value(mut self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, MessageError> {
        self.check_finite()?;
        let gradients =
            self.gradients.take().ok_or_else(|| MessageError::new("missing field `gradients`"))?;
        check_lengths(&gradients, batch)?;
        Ok(self.with_gradients(gradients))
    }

    fn check_finite(&self) -> Result<(), MessageError> {
        let scalars = self.metrics.values().chain([&self.loss]).map(|number| &number.0);
        let mut numbers = self.gradients.iter().flatten().flatten().chain(scalars);
        match numbers.find(|number| !number.is_finite()) {
            Some(number) => Err(MessageError::new(format!("its value has the number {number}"))),
            None => Ok(()),
        }
    }
}

/// Checks that there is one gradient for each log-prob of a batch.
///
/// # Errors
/// The lengths found and expected.
pub fn check_lengths(gradients: &[Vec<f64>], batch: &ObjectiveBatch) -> Result<(), MessageError> {
    let wanted: Vec<_> = batch.views.iter().map(|view| view.policy.len()).collect();
    let got: Vec<_> = gradients.iter().map(Vec::len).collect();
    if got == wanted {
        Ok(())
    } else {
        let text = format!("its gradients have {got:?} numbers for {wanted:?} log-probs");
        Err(MessageError::new(text))
    }
}
