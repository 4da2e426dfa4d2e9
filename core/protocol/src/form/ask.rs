//! What a plugin asks while it works on a case, and the answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use isr_api::{
    ComponentError, Continuation, FrozenPolicy, GenerateRequest, Message, Part, Prompt, Role, Sampling,
    ScoreRequest, VideoInput,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::message::{Answer, Ask};

/// Most answers that one question may ask for.
const MOST_ANSWERS: usize = 64;

/// What questions are about.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// The video of the case.
    pub(crate) scene: &'a VideoInput,
    /// The policy.
    pub(crate) policy: &'a FrozenPolicy,
}

/// `{"role": "user", "parts": [{"video": true}, {"text": "..."}]}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageForm {
    role: Role,
    parts: Vec<PartForm>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum PartForm {
    Text(String),
    /// The video of the case.
    Video(bool),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerateForm {
    prompt: Vec<MessageForm>,
    #[serde(default)]
    sampling: Sampling,
    #[serde(default = "one")]
    n: usize,
    seed: u64,
}

fn one() -> usize {
    1
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoreForm {
    prompt: Vec<MessageForm>,
    continuations: Vec<Continuation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrameForm {
    index: usize,
}

/// Answers a question.
pub(crate) async fn answer(ask: Ask, asked: Asked<'_>) -> Answer {
    let answer = match ask.method.as_str() {
        "generate" => generate(ask.params, asked).await,
        "score" => score(ask.params, asked).await,
        "frame" => frame(ask.params, asked.scene),
        other => Err(ComponentError::failed(format!("there is no `{other}` to ask for"))),
    };
    match answer {
        Ok(value) => Answer::Value(value),
        Err(error) => {
            let code = if matches!(error, ComponentError::BadInput(_)) { "bad_input" } else { "failed" };
            Answer::Error { code: code.to_owned(), message: error.to_string() }
        }
    }
}

async fn generate(params: Value, asked: Asked<'_>) -> Result<Value, ComponentError> {
    let GenerateForm { prompt, sampling, n, seed } = read(params)?;
    sampling.validate().map_err(ComponentError::failed)?;
    if n == 0 || n > MOST_ANSWERS {
        return Err(ComponentError::failed(format!("n is {n}; it must be 1 to {MOST_ANSWERS}")));
    }
    let request = GenerateRequest { prompt: conversation(prompt, asked.scene), sampling, n, seed };
    write(&asked.policy.generate(request).await?)
}

async fn score(params: Value, asked: Asked<'_>) -> Result<Value, ComponentError> {
    let ScoreForm { prompt, continuations } = read(params)?;
    let request = ScoreRequest { prompt: conversation(prompt, asked.scene), continuations };
    write(&asked.policy.score(request).await?)
}

/// Base64 of `[height, width, 3]` bytes, or null past the end.
fn frame(params: Value, scene: &VideoInput) -> Result<Value, ComponentError> {
    let FrameForm { index } = read(params)?;
    let frames = &scene.frames;
    let frame = if index < frames.len() { frames.frame(index) } else { None };
    Ok(frame.map_or(Value::Null, |bytes| STANDARD.encode(bytes).into()))
}

fn conversation(prompt: Vec<MessageForm>, scene: &VideoInput) -> Prompt {
    let part = |part| match part {
        PartForm::Text(text) => Some(Part::Text(text)),
        PartForm::Video(shown) => shown.then(|| Part::Video(scene.clone())),
    };
    let message = |message: MessageForm| {
        let parts = message.parts.into_iter().filter_map(part).collect();
        Message { role: message.role, parts }
    };
    Prompt { messages: prompt.into_iter().map(message).collect() }
}

fn read<T: for<'de> Deserialize<'de>>(params: Value) -> Result<T, ComponentError> {
    serde_json::from_value(params)
        .map_err(|error| ComponentError::failed(format!("the question cannot be read: {error}")))
}

fn write(value: &impl Serialize) -> Result<Value, ComponentError> {
    serde_json::to_value(value).map_err(ComponentError::failed)
}
