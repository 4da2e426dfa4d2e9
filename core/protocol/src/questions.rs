//! Answers to what a plugin asks while it works on a case.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use isr_api::messages::{
    BatchMessage, FrameMessage, MessageError, QuestionLimits, ValueMessage, check_lengths,
};
use isr_api::{ComponentError, FrozenPolicy, PreferenceObjective, VideoInput};
use serde::Serialize;
use serde_json::Value;

use crate::keys;
use crate::message::{Answer, HostRequest};

/// What a call's questions are about.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// A case.
    Case(CaseContext<'a>),
    /// The objective of a training step.
    Objective(&'a dyn PreferenceObjective),
}

/// A case whose video is looked at.
#[derive(Clone, Copy)]
pub(crate) struct CaseContext<'a> {
    /// The video of the case.
    pub(crate) video: &'a VideoInput,
    /// The policy that answers.
    pub(crate) policy: &'a FrozenPolicy,
}

/// Answers a question, within the limits of its size.
pub(crate) async fn answer(request: HostRequest, subject: Subject<'_>, limits: &QuestionLimits) -> Answer {
    let answer = match (request.method.as_str(), subject) {
        ("generate", Subject::Case(context)) => generate(request.params, context, limits).await,
        ("score", Subject::Case(context)) => score(request.params, context, limits).await,
        ("frame", Subject::Case(context)) => frame(request.params, context.video),
        ("evaluate", Subject::Objective(objective)) => evaluate(request.params, objective),
        (other, _) => Err(ComponentError::failed(format!("there is no `{other}` to ask for"))),
    };
    match answer {
        Ok(value) => Answer::Value(value),
        Err(error) => {
            let code = if matches!(error, ComponentError::BadInput(_)) { "bad_input" } else { "failed" };
            Answer::Error { code: code.to_owned(), message: error.to_string() }
        }
    }
}

async fn generate(
    params: Value,
    context: CaseContext<'_>,
    limits: &QuestionLimits,
) -> Result<Value, ComponentError> {
    let message = keys::read_generate(params).map_err(unreadable)?;
    let request =
        message.into_request(&[], |shown| case_video(shown, context)).map_err(ComponentError::failed)?;
    limits.check_generate(&request).map_err(ComponentError::failed)?;
    to_value(&context.policy.generate(request).await?)
}

async fn score(
    params: Value,
    context: CaseContext<'_>,
    limits: &QuestionLimits,
) -> Result<Value, ComponentError> {
    let message = keys::read_score(params).map_err(unreadable)?;
    let request =
        message.into_request(&[], |shown| case_video(shown, context)).map_err(ComponentError::failed)?;
    limits.check_score(&request).map_err(ComponentError::failed)?;
    to_value(&context.policy.score(request).await?)
}

/// `{"video": true}` is the video of the case; false leaves it out.
fn case_video(shown: bool, context: CaseContext<'_>) -> Result<Option<VideoInput>, MessageError> {
    Ok(shown.then(|| context.video.clone()))
}

/// Base64 of `[height, width, 3]` bytes, or null past the end.
fn frame(params: Value, video: &VideoInput) -> Result<Value, ComponentError> {
    let FrameMessage { index } = keys::read(params).map_err(unreadable)?;
    let frames = &video.frames;
    let frame = if index < frames.len() { frames.frame(index) } else { None };
    Ok(frame.map_or(Value::Null, |bytes| STANDARD.encode(bytes).into()))
}

/// The objective's value. Loss and figures may be any numbers, as in a step that is taken here.
fn evaluate(params: Value, objective: &dyn PreferenceObjective) -> Result<Value, ComponentError> {
    let message: BatchMessage<Vec<f64>> = keys::read(params).map_err(unreadable)?;
    let batch = message.into_batch(Ok::<_, MessageError>).map_err(ComponentError::failed)?;
    batch.check(&objective.requirements()).map_err(ComponentError::failed)?;
    let value = objective.evaluate(&batch)?;
    check_lengths(&value.gradients, &batch).map_err(ComponentError::failed)?;
    if let Some(number) = value.gradients.iter().flatten().find(|number| !number.is_finite()) {
        let text = format!("the objective's gradients have the number {number}");
        return Err(ComponentError::failed(text));
    }
    let message = ValueMessage::without_gradients(&value);
    to_value(&ValueMessage { gradients: Some(value.gradients), ..message })
}

fn unreadable(reason: String) -> ComponentError {
    ComponentError::failed(format!("the question cannot be read: {reason}"))
}

fn to_value(value: &impl Serialize) -> Result<Value, ComponentError> {
    serde_json::to_value(value).map_err(ComponentError::failed)
}
