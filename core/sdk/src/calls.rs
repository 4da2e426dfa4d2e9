//! Batches and values of objectives as messages.

use isr_api::{ObjectiveBatch, ObjectiveValue, ViewLogProbs};

use crate::error::RemoteError;
use crate::form::{BatchForm, Number, ValueForm, ViewForm, view_named};
use crate::message::{Message, to_bytes, to_numbers};
use crate::pack::Packing;

/// A batch as a message.
pub(crate) fn batch_message(batch: &ObjectiveBatch) -> Result<Message, RemoteError> {
    let mut packing = Packing::default();
    let view = |it: &ViewLogProbs| ViewForm {
        view: it.view.name().to_owned(),
        policy: packing.add(to_bytes(&it.policy)),
        reference: packing.add(to_bytes(&it.reference)),
        lengths: it.lengths.clone(),
    };
    let form = BatchForm { views: batch.views.iter().map(view).collect() };
    Message::new(&form, packing.blobs)
}

/// The batch of a message.
pub fn batch(message: &Message) -> Result<ObjectiveBatch, RemoteError> {
    let view = |form: ViewForm| {
        Ok(ViewLogProbs {
            view: view_named(&form.view)?,
            policy: to_numbers(message.blob(form.policy)?),
            reference: to_numbers(message.blob(form.reference)?),
            lengths: form.lengths,
        })
    };
    let form: BatchForm = message.form()?;
    Ok(ObjectiveBatch { views: form.views.into_iter().map(view).collect::<Result<_, RemoteError>>()? })
}

/// A value as a message.
pub fn value_message(value: &ObjectiveValue) -> Result<Message, RemoteError> {
    let metrics = value.metrics.iter().map(|(name, number)| (name.clone(), Number(*number)));
    let form = ValueForm { loss: Number(value.loss), metrics: metrics.collect() };
    Message::new(&form, value.gradients.iter().map(|gradient| to_bytes(gradient)).collect())
}

/// The value of a message.
pub(crate) fn value(message: &Message) -> Result<ObjectiveValue, RemoteError> {
    let form: ValueForm = message.form()?;
    let gradients = message.blobs.iter().map(|blob| to_numbers(blob.bytes())).collect();
    let metrics = form.metrics.into_iter().map(|(name, number)| (name, number.0)).collect();
    Ok(ObjectiveValue { loss: form.loss.0, gradients, metrics })
}
