//! Domain types as messages with blobs, and back.

use std::sync::Arc;

use isr_api::messages::{
    BatchMessage, DescribeMessage, GenerateMessage, JudgeMessage, ScoreMessage, TrainMessage, ValueMessage,
    prompt_from_turns, prompt_to_turns,
};
use isr_api::{
    GenerateRequest, JudgeCase, ObjectiveBatch, ObjectiveValue, Prompt, RetrospectionCase, ScoreRequest,
    TrainStep, VideoInput, VisualFeatures,
};

use crate::error::RemoteError;
use crate::message::{Message, to_bytes, to_numbers};
use crate::messages::VideoMessage;
use crate::pack::{self, Packing};

/// Parameters of `judge`.
pub fn judge_message(case: &JudgeCase) -> Result<Message, RemoteError> {
    let mut packing = Packing::default();
    let message = JudgeMessage::new(case, packing.video(&case.scene, false));
    Message::new(&message, packing.blobs)
}

/// The case of a `judge` message.
pub(crate) fn judge_case(message: &Message) -> Result<JudgeCase, RemoteError> {
    let case: JudgeMessage<VideoMessage> = message.read()?;
    let scene = pack::video(message, case.scene.clone())?;
    Ok(case.into_case(scene))
}

/// Parameters of `describe`.
pub fn describe_message(case: &RetrospectionCase) -> Result<Message, RemoteError> {
    let mut packing = Packing::default();
    let message = DescribeMessage::new(case, packing.video(&case.scene, false));
    Message::new(&message, packing.blobs)
}

/// The case of a `describe` message.
pub(crate) fn retrospection_case(message: &Message) -> Result<RetrospectionCase, RemoteError> {
    let case: DescribeMessage<VideoMessage> = message.read()?;
    let scene = pack::video(message, case.scene.clone())?;
    Ok(case.into_case(scene))
}

/// Parameters of `generate`. Videos among `known` cross by index.
pub fn generate_message(request: &GenerateRequest, known: &[VideoInput]) -> Result<Message, RemoteError> {
    let mut packing = Packing { known, ..Packing::default() };
    let message = GenerateMessage::new(request, |input| packing.part(input));
    Message::new(&message, packing.blobs)
}

/// The request of a `generate` message, which may refer to `known`.
pub fn generate_request(message: &Message, known: &[VideoInput]) -> Result<GenerateRequest, RemoteError> {
    let request: GenerateMessage<VideoMessage> = message.read()?;
    request.into_request(known, |video| pack::video(message, video).map(Some))
}

/// Parameters of `score`. Videos among `known` cross by index.
pub fn score_message(request: &ScoreRequest, known: &[VideoInput]) -> Result<Message, RemoteError> {
    let mut packing = Packing { known, ..Packing::default() };
    let message = ScoreMessage::new(request, |input| packing.part(input));
    Message::new(&message, packing.blobs)
}

/// The request of a `score` message, which may refer to `known`.
pub fn score_request(message: &Message, known: &[VideoInput]) -> Result<ScoreRequest, RemoteError> {
    let request: ScoreMessage<VideoMessage> = message.read()?;
    request.into_request(known, |video| pack::video(message, video).map(Some))
}

/// Reply to `encode`.
pub(crate) fn features_message(features: VisualFeatures) -> Result<Message, RemoteError> {
    let mut packing = Packing::default();
    let message = packing.features(&Arc::new(features));
    Message::new(&message, packing.blobs)
}

/// Parameters of `train_step`.
pub fn train_message(step: TrainStep) -> Result<Message, RemoteError> {
    let mut packing = Packing::default();
    let turns =
        |prompt: &Prompt| Ok::<_, RemoteError>(prompt_to_turns(prompt, |input| packing.part(input)));
    let message = TrainMessage::new(step, turns)?;
    Message::new(&message, packing.blobs)
}

/// The step of a `train_step` message.
pub(crate) fn train_step(message: &Message) -> Result<TrainStep, RemoteError> {
    let step: TrainMessage<VideoMessage> = message.read()?;
    step.into_step(|turns| prompt_from_turns(turns, &[], |video| pack::video(message, video).map(Some)))
}

/// Parameters of `evaluate`, as a policy asks its host.
pub(crate) fn batch_message(batch: &ObjectiveBatch) -> Result<Message, RemoteError> {
    let mut packing = Packing::default();
    let message =
        BatchMessage::new(batch, |_, numbers| Ok::<_, RemoteError>(packing.add(to_bytes(numbers))))?;
    Message::new(&message, packing.blobs)
}

/// The batch of an `evaluate` message.
pub fn batch(message: &Message) -> Result<ObjectiveBatch, RemoteError> {
    let batch: BatchMessage<usize> = message.read()?;
    batch.into_batch(|index| message.blob(index).map(to_numbers))
}

/// Reply to `evaluate`; the gradients are its blobs, in order.
pub fn value_message(value: &ObjectiveValue) -> Result<Message, RemoteError> {
    let gradients = value.gradients.iter().map(|gradient| to_bytes(gradient)).collect();
    Message::new(&ValueMessage::without_gradients(value), gradients)
}

/// The value of a reply to `evaluate`.
pub(crate) fn value(message: &Message) -> Result<ObjectiveValue, RemoteError> {
    let gradients = message.blobs.iter().map(|blob| to_numbers(blob.bytes())).collect();
    Ok(message.read::<ValueMessage>()?.with_gradients(gradients))
}
