//! What a component asks of the program while it works on a case.

use serde::{Deserialize, Serialize};

use super::MessageError;
use crate::policy::{Continuation, GenerateRequest, ScoreRequest};
use crate::prompt::{Message, Part, Prompt, Role};
use crate::response::Sampling;
use crate::video::VideoInput;

/// Parameters of `generate`: a [`GenerateRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateMessage<V> {
    /// The conversation, oldest turn first.
    pub prompt: Vec<TurnMessage<V>>,
    /// Sampling parameters; default [`Sampling::default`].
    #[serde(default)]
    pub sampling: Sampling,
    /// Number of answers, drawn independently; default 1.
    #[serde(default = "one")]
    pub n: usize,
    /// Seed of the draws.
    pub seed: u64,
}

fn one() -> usize {
    1
}

/// Parameters of `score`: a [`ScoreRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreMessage<V> {
    /// The conversation, oldest turn first.
    pub prompt: Vec<TurnMessage<V>>,
    /// Continuations, each scored on its own after the prompt.
    pub continuations: Vec<Continuation>,
}

/// Parameters of `frame`: pixels of one frame of the case's video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameMessage {
    /// Index of the frame, from 0.
    pub index: usize,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnMessage<V> {
    /// The speaker.
    pub role: Role,
    /// Texts and videos, in order.
    pub parts: Vec<PartMessage<V>>,
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartMessage<V> {
    /// Plain text.
    Text(String),
    /// A video of the call under way, by index. Native libraries only.
    Known(usize),
    /// A video. On JSON lines `true`: the case's.
    Video(V),
}

/// The turns of a conversation, with each video as `video` writes it.
pub fn prompt_to_turns<V>(
    prompt: &Prompt,
    mut video: impl FnMut(&VideoInput) -> PartMessage<V>,
) -> Vec<TurnMessage<V>> {
    let mut part = |part: &Part| match part {
        Part::Text(text) => PartMessage::Text(text.clone()),
        Part::Video(input) => video(input),
    };
    let turn =
        |turn: &Message| TurnMessage { role: turn.role, parts: turn.parts.iter().map(&mut part).collect() };
    prompt.messages.iter().map(turn).collect()
}

/// The conversation of turns. `known` are the videos that may be referred to by index; `video` reads any other, and
/// returns `None` for a part to be left out.
///
/// # Errors
/// An index past the end of `known`, and those of `video`.
pub fn prompt_from_turns<V, E: From<MessageError>>(
    turns: Vec<TurnMessage<V>>,
    known: &[VideoInput],
    mut video: impl FnMut(V) -> Result<Option<VideoInput>, E>,
) -> Result<Prompt, E> {
    let mut part = |part: PartMessage<V>| match part {
        PartMessage::Text(text) => Ok(Some(Part::Text(text))),
        PartMessage::Video(it) => Ok(video(it)?.map(Part::Video)),
        PartMessage::Known(index) => match known.get(index) {
            Some(input) => Ok(Some(Part::Video(input.clone()))),
            None => Err(MessageError::new(format!("there is no video {index} in this call")).into()),
        },
    };
    let turn = |turn: TurnMessage<V>| {
        let parts = turn.parts.into_iter().filter_map(|it| part(it).transpose());
        Ok(Message { role: turn.role, parts: parts.collect::<Result<_, E>>()? })
    };
    Ok(Prompt { messages: turns.into_iter().map(turn).collect::<Result<_, E>>()? })
}

impl<V> GenerateMessage<V> {
    /// A request whose videos cross as `video` writes them.
    pub fn new(request: &GenerateRequest, video: impl FnMut(&VideoInput) -> PartMessage<V>) -> Self {
        let GenerateRequest { prompt, sampling, n, seed } = request;
        let prompt = prompt_to_turns(prompt, video);
        Self { prompt, sampling: sampling.clone(), n: *n, seed: *seed }
    }

    /// The request, read as by [`prompt_from_turns`].
    ///
    /// # Errors
    /// Those of [`prompt_from_turns`].
    pub fn into_request<E: From<MessageError>>(
        self,
        known: &[VideoInput],
        video: impl FnMut(V) -> Result<Option<VideoInput>, E>,
    ) -> Result<GenerateRequest, E> {
        let Self { prompt, sampling, n, seed } = self;
        Ok(GenerateRequest { prompt: prompt_from_turns(prompt, known, video)?, sampling, n, seed })
    }
}

impl<V> ScoreMessage<V> {
    /// A request whose videos cross as `video` writes them.
    pub fn new(request: &ScoreRequest, video: impl FnMut(&VideoInput) -> PartMessage<V>) -> Self {
        let prompt = prompt_to_turns(&request.prompt, video);
        Self { prompt, continuations: request.continuations.clone() }
    }

    /// The request, read as by [`prompt_from_turns`].
    ///
    /// # Errors
    /// Those of [`prompt_from_turns`].
    pub fn into_request<E: From<MessageError>>(
        self,
        known: &[VideoInput],
        video: impl FnMut(V) -> Result<Option<VideoInput>, E>,
    ) -> Result<ScoreRequest, E> {
        let Self { prompt, continuations } = self;
        Ok(ScoreRequest { prompt: prompt_from_turns(prompt, known, video)?, continuations })
    }
}
