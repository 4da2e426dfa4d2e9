//! Parsing and validation of request bodies.

use isr_api::{Role, Sampling};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::openai::error::ApiError;
use crate::openai::media::Medium;

/// Largest `n`.
const MOST_ANSWERS: usize = 16;

/// A validated chat-completion request.
#[derive(Debug)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    pub(crate) messages: Vec<ChatMessage>,
    pub(crate) sampling: Sampling,
    pub(crate) n: usize,
    /// `None` draws a random seed.
    pub(crate) seed: Option<u64>,
    pub(crate) logprobs: bool,
    pub(crate) stream: bool,
    /// Whether the stream ends with token counts.
    pub(crate) include_usage: bool,
}

/// One message of the conversation.
#[derive(Debug)]
pub(crate) struct ChatMessage {
    pub(crate) role: Role,
    pub(crate) parts: Vec<ChatPart>,
}

/// A content part of a message.
#[derive(Debug, PartialEq)]
pub(crate) enum ChatPart {
    Text(String),
    /// A video or image by URL; `at` is its JSON path in the request, for errors.
    Medium {
        medium: Medium,
        url: String,
        at: String,
    },
}

/// The JSON body. Unknown keys are errors, since ignoring one could change the answer unnoticed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    model: String,
    messages: Vec<Message>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<usize>,
    n: Option<usize>,
    seed: Option<i64>,
    stop: Option<Stop>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    logprobs: Option<bool>,
    top_logprobs: Option<u32>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    response_format: Option<ResponseFormat>,
    // Accepted and ignored: they do not affect the response.
    #[serde(rename = "user")]
    _user: Option<IgnoredAny>,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
    #[serde(rename = "store")]
    _store: Option<IgnoredAny>,
    #[serde(rename = "service_tier")]
    _service_tier: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stop {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct ResponseFormat {
    r#type: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: String,
    content: Content,
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part {
    Text { text: String },
    ImageUrl { image_url: Source },
    VideoUrl { video_url: Source },
}

/// OpenAI's `{"url": ..., "detail": ...}`; `detail` is ignored, since the reader's config sets the resolution.
#[derive(Deserialize)]
struct Source {
    url: String,
}

impl ChatRequest {
    /// Parses a body. `max_tokens` is the largest number of new tokens, and the default.
    pub(crate) fn parse(body: &[u8], max_tokens: usize) -> Result<Self, ApiError> {
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad(format!("the body cannot be used: {error}")))?;
        body.check_unsupported()?;
        let sampling = body.sampling(max_tokens)?;
        let n = body.n.unwrap_or(1);
        if !(1..=MOST_ANSWERS).contains(&n) {
            return Err(ApiError::bad_value("n", format!("n is {n}; it must be from 1 to {MOST_ANSWERS}")));
        }
        let (stream, logprobs) = (body.stream.unwrap_or(false), body.logprobs.unwrap_or(false));
        if stream && logprobs {
            return Err(ApiError::bad_value(
                "logprobs",
                "logprobs are not streamed; leave out one of both",
            ));
        }
        if body.messages.is_empty() {
            return Err(ApiError::bad_value("messages", "messages is empty; there is nothing to answer"));
        }
        let messages = body.messages.into_iter().enumerate();
        Ok(Self {
            model: body.model,
            messages: messages.map(|(index, message)| message.checked(index)).collect::<Result<_, _>>()?,
            sampling,
            n,
            // Any number names a stream of draws, a negative one too.
            seed: body.seed.map(|seed| seed as u64),
            logprobs,
            stream,
            include_usage: body.stream_options.is_some_and(|options| options.include_usage),
        })
    }
}

impl Body {
    /// Rejects supported keys with unsupported values.
    fn check_unsupported(&self) -> Result<(), ApiError> {
        let is_set = |penalty: Option<f64>| penalty.is_some_and(|penalty| penalty != 0.0);
        let format = self.response_format.as_ref().map(|format| format.r#type.as_str());
        let unsupported = [
            (is_set(self.frequency_penalty), "frequency_penalty"),
            (is_set(self.presence_penalty), "presence_penalty"),
            (self.top_logprobs.is_some_and(|count| count > 0), "top_logprobs"),
            (format.is_some_and(|format| format != "text"), "response_format"),
        ];
        match unsupported.into_iter().find(|(asked, _)| *asked) {
            Some((_, key)) => {
                Err(ApiError::bad_value(key, format!("this server has no {key}; leave it out")))
            }
            None => Ok(()),
        }
    }

    fn sampling(&self, most: usize) -> Result<Sampling, ApiError> {
        let asked = self.max_completion_tokens.or(self.max_tokens);
        if let Some(asked) = asked.filter(|asked| *asked == 0 || *asked > most) {
            let key =
                if self.max_completion_tokens.is_some() { "max_completion_tokens" } else { "max_tokens" };
            let message = format!("{key} is {asked}; this server takes 1 to {most}");
            return Err(ApiError::bad_value(key, message));
        }
        let stop = match &self.stop {
            None => Vec::new(),
            Some(Stop::One(stop)) => vec![stop.clone()],
            Some(Stop::Several(stops)) => stops.clone(),
        };
        let sampling = Sampling {
            temperature: self.temperature.unwrap_or(1.0),
            top_p: self.top_p.unwrap_or(1.0),
            top_k: self.top_k.unwrap_or(0),
            max_new_tokens: asked.unwrap_or(most),
            stop,
        };
        sampling.validate().map_err(|reason| {
            let key = reason.split(' ').next().unwrap_or_default().to_owned();
            ApiError::bad_value(key, reason)
        })?;
        Ok(sampling)
    }
}

impl Message {
    fn checked(self, index: usize) -> Result<ChatMessage, ApiError> {
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let at = format!("messages[{index}].role");
                let message = format!("{at} is `{other}`; it must be system, developer, user or assistant");
                return Err(ApiError::bad_value(at, message));
            }
        };
        let parts = match self.content {
            Content::Text(text) => vec![ChatPart::Text(text)],
            Content::Parts(parts) => {
                let part =
                    |(place, part)| checked_part(part, format!("messages[{index}].content[{place}]"));
                parts.into_iter().enumerate().map(part).collect()
            }
        };
        Ok(ChatMessage { role, parts })
    }
}

fn checked_part(part: Part, at: String) -> ChatPart {
    match part {
        Part::Text { text } => ChatPart::Text(text),
        Part::ImageUrl { image_url } => ChatPart::Medium { medium: Medium::Image, url: image_url.url, at },
        Part::VideoUrl { video_url } => ChatPart::Medium { medium: Medium::Video, url: video_url.url, at },
    }
}
