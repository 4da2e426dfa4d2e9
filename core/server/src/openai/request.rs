//! Parsing and validation of request bodies.
//!
//! Keys are read one by one from the JSON, and what is left is checked against `keys.rs`. The types of OpenAI's API in published
//! crates drop unknown keys unread and refuse forms that clients send: openai-protocol 1.16 a URL without an object around it,
//! async-openai 0.43 `max_tokens` -1 and `video_url`.

use isr_api::{Role, Sampling};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::openai::error::ApiError;
use crate::openai::ignored::Ignored;
use crate::openai::keys;
use crate::openai::media::Medium;

/// Largest `n`.
const MOST_ANSWERS: usize = 16;

/// Most values of a body: a parsed value takes some 100 bytes of memory, whereas two suffice in the text.
const MOST_VALUES: usize = 100_000;

/// Most videos and images of a request.
const MOST_MEDIA: usize = 512;

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
    /// Keys without effect.
    pub(crate) ignored: Ignored,
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

/// Limits of what is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestLimits {
    /// Most new tokens, and the number without one in the request.
    pub(crate) max_tokens: usize,
    /// Frames that are taken of a video, where that is one number.
    pub(crate) frames: Option<usize>,
    /// Most bytes of text in all messages.
    pub(crate) text_bytes: usize,
}

impl ChatRequest {
    /// Parses a body.
    pub(crate) fn parse(body: &[u8], limits: RequestLimits) -> Result<Self, ApiError> {
        if values(body) > MOST_VALUES {
            return Err(ApiError::bad(format!("the body has more than {MOST_VALUES} values")));
        }
        let body: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|error| ApiError::bad(format!("the body cannot be used: {error}")))?;
        let mut body = Keys::of(body);
        let model = body.needed("model")?;
        let messages: Vec<Value> = body.needed("messages")?;
        let sampling = sampling(&mut body, limits.max_tokens)?;
        let n = body.take("n")?.unwrap_or(1);
        if !(1..=MOST_ANSWERS).contains(&n) {
            return Err(ApiError::bad_value("n", format!("n is {n}; it must be from 1 to {MOST_ANSWERS}")));
        }
        let stream = body.take("stream")?.unwrap_or(false);
        let logprobs = body.take("logprobs")?.unwrap_or(false);
        if stream && logprobs {
            return Err(ApiError::bad_value(
                "logprobs",
                "logprobs are not streamed; leave out one of both",
            ));
        }
        // Any number names a stream of draws, a negative one too.
        let seed = body.take::<i64>("seed")?.map(|seed| seed as u64);
        let mut stream_options = Keys { at: "stream_options.", ..Keys::of(body.map("stream_options")?) };
        let include_usage = stream_options.take("include_usage")?.unwrap_or(false);
        let mut checked = Checked { frames: limits.frames, ignored: Ignored::default() };
        stream_options.nothing_left(&mut checked.ignored, keys::of_stream_options)?;
        checked.media_options(&mut body)?;
        checked.template_options(&mut body)?;
        body.nothing_left(&mut checked.ignored, |key, value| keys::of_request(key, value, n))?;
        let messages = checked.messages(messages)?;
        check_sizes(&messages, limits.text_bytes)?;
        let ignored = checked.ignored;
        Ok(Self { model, messages, sampling, n, seed, logprobs, stream, include_usage, ignored })
    }
}

/// Upper bound of the number of values in a JSON text: one, and one for each comma and bracket outside strings.
fn values(body: &[u8]) -> usize {
    let (mut count, mut in_string, mut escaped) = (1, false, false);
    for byte in body {
        match (in_string, escaped, byte) {
            (true, true, _) => escaped = false,
            (true, false, b'\\') => escaped = true,
            (_, false, b'"') => in_string = !in_string,
            (false, _, b',' | b'[' | b'{') => count += 1,
            _ => {}
        }
    }
    count
}

/// Keys of an object that have not been read.
struct Keys<'a> {
    /// JSON path of the object, for errors.
    at: &'a str,
    left: Map<String, Value>,
}

impl Keys<'_> {
    fn of(left: Map<String, Value>) -> Self {
        Self { at: "", left }
    }

    /// Takes a key's value. Null is as good as none.
    fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, ApiError> {
        let Some(value) = self.left.remove(key).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let taken = serde_json::from_value(value);
        taken.map(Some).map_err(|error| self.bad(key, &error.to_string()))
    }

    fn needed<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, ApiError> {
        self.take(key)?.ok_or_else(|| self.bad(key, "it is missing"))
    }

    fn map(&mut self, key: &str) -> Result<Map<String, Value>, ApiError> {
        Ok(self.take(key)?.unwrap_or_default())
    }

    fn bad(&self, key: &str, reason: &str) -> ApiError {
        let path = format!("{}{key}", self.at);
        ApiError::bad_value(path.clone(), format!("{path}: {reason}"))
    }

    /// Takes a number of frames for a video, which must be the server's.
    fn frames(&mut self, key: &str, frames: Option<usize>, ignored: &mut Ignored) -> Result<(), ApiError> {
        let (Some(asked), Some(frames)) = (self.left.get(key).and_then(Value::as_u64), frames) else {
            return Ok(());
        };
        let path = format!("{}{key}", self.at);
        if asked != frames as u64 {
            let message =
                format!("{path} is {asked}; this server takes {frames} frames of a video (--frames)");
            return Err(ApiError::bad_value(path, message));
        }
        self.left.remove(key);
        ignored.add(&path);
        Ok(())
    }

    /// Notes the keys that are left. Fails for one whose value would change the completion, by `neutral`.
    fn nothing_left(
        self,
        ignored: &mut Ignored,
        neutral: impl Fn(&str, &Value) -> bool,
    ) -> Result<(), ApiError> {
        for (key, value) in &self.left {
            let path = format!("{}{key}", self.at);
            if !keys::is_empty(value) && !neutral(key, value) {
                let message = format!("this server has no {path}; leave it out");
                return Err(ApiError::bad_value(path, message));
            }
            ignored.add(&path);
        }
        Ok(())
    }
}

fn sampling(body: &mut Keys<'_>, most: usize) -> Result<Sampling, ApiError> {
    let (first, second) = ("max_completion_tokens", "max_tokens");
    let (asked, older) = (body.take::<i64>(first)?, body.take::<i64>(second)?);
    let key = if asked.is_some() { first } else { second };
    let max_new_tokens = match asked.or(older) {
        // As some servers have it: as many as there may be.
        None | Some(-1) => most,
        Some(asked) => match usize::try_from(asked) {
            Ok(asked) if asked > 0 => asked.min(most),
            _ => {
                let message = format!("{key} is {asked}; it must be at least 1");
                return Err(ApiError::bad_value(key, message));
            }
        },
    };
    let stop = match body.take::<Value>("stop")? {
        None => Vec::new(),
        Some(Value::String(stop)) => vec![stop],
        Some(several) => serde_json::from_value(several)
            .map_err(|_| body.bad("stop", "it must be a string or a list of strings"))?,
    };
    // All tokens: 0 in transformers, -1 in vLLM.
    let top_k = body.take::<i64>("top_k")?.map_or(0, |top_k| usize::try_from(top_k).unwrap_or(0));
    let sampling = Sampling {
        temperature: body.take("temperature")?.unwrap_or(1.0),
        top_p: body.take("top_p")?.unwrap_or(1.0),
        top_k,
        max_new_tokens,
        stop,
    };
    sampling.validate().map_err(|reason| {
        let key = reason.split(' ').next().unwrap_or_default().to_owned();
        ApiError::bad_value(key, reason)
    })?;
    Ok(sampling)
}

/// What messages and options are checked against, and the keys without effect that were found.
struct Checked {
    frames: Option<usize>,
    ignored: Ignored,
}

impl Checked {
    /// vLLM's `media_io_kwargs`, as lmms-eval sends it with `pass_video_url`.
    fn media_options(&mut self, body: &mut Keys<'_>) -> Result<(), ApiError> {
        let mut options = Keys { at: "media_io_kwargs.", left: body.map("media_io_kwargs")? };
        let mut video = Keys { at: "media_io_kwargs.video.", left: options.map("video")? };
        video.frames("num_frames", self.frames, &mut self.ignored)?;
        video.nothing_left(&mut self.ignored, |_, _| false)?;
        options.nothing_left(&mut self.ignored, |_, _| false)
    }

    fn template_options(&mut self, body: &mut Keys<'_>) -> Result<(), ApiError> {
        let options = Keys { at: "chat_template_kwargs.", left: body.map("chat_template_kwargs")? };
        options.nothing_left(&mut self.ignored, keys::of_template)
    }

    fn messages(&mut self, messages: Vec<Value>) -> Result<Vec<ChatMessage>, ApiError> {
        if messages.is_empty() {
            return Err(ApiError::bad_value("messages", "messages is empty; there is nothing to answer"));
        }
        messages.into_iter().enumerate().map(|(index, message)| self.message(index, message)).collect()
    }

    fn message(&mut self, index: usize, message: Value) -> Result<ChatMessage, ApiError> {
        let at = format!("messages[{index}].");
        let Value::Object(message) = message else {
            return Err(ApiError::bad_value("messages", format!("messages[{index}] must be an object")));
        };
        let mut message = Keys { at: &at, left: message };
        let role: String = message.needed("role")?;
        let role = match role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let reason =
                    format!("{at}role is `{other}`; it must be system, developer, user or assistant");
                return Err(ApiError::bad_value(format!("{at}role"), reason));
            }
        };
        let parts = match message.take("content")? {
            // What clients send back of an answer without text.
            None if role == Role::Assistant => vec![ChatPart::Text(String::new())],
            None => return Err(message.bad("content", "it is missing")),
            Some(Value::String(text)) => vec![ChatPart::Text(text)],
            Some(Value::Array(parts)) => {
                let part = |(place, part)| self.part(part, format!("{at}content[{place}]"));
                parts.into_iter().enumerate().map(part).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(message.bad("content", "it must be a string or a list of parts")),
        };
        message.nothing_left(&mut self.ignored, |key, _| keys::of_message(key))?;
        Ok(ChatMessage { role, parts })
    }

    fn part(&mut self, part: Value, at: String) -> Result<ChatPart, ApiError> {
        let bad = |reason: &str| ApiError::bad_value(at.clone(), format!("{at}: {reason}"));
        let Value::Object(mut part) = part else {
            return Err(bad("it must be an object with a `type`"));
        };
        let kind = match part.remove("type") {
            Some(Value::String(kind)) => kind,
            _ => String::new(),
        };
        let medium = match kind.as_str() {
            "text" => None,
            "image_url" => Some(Medium::Image),
            "video_url" => Some(Medium::Video),
            other => {
                return Err(bad(&format!(
                    "its type is `{other}`; it must be text, image_url or video_url"
                )));
            }
        };
        let content = match (medium, part.remove(&kind)) {
            (None, Some(Value::String(text))) => ChatPart::Text(text),
            (None, _) => return Err(bad("a part of type text needs a string `text`")),
            (Some(medium), source) => {
                let url = self.url(source, &format!("{at}.{kind}."))?;
                let missing =
                    || bad(&format!("a part of type {kind} needs `{kind}`: {{\"url\": \"...\"}}"));
                ChatPart::Medium { medium, url: url.ok_or_else(missing)?, at: at.clone() }
            }
        };
        let rest = Keys { at: &format!("{at}."), left: part };
        rest.nothing_left(&mut self.ignored, |key, _| keys::of_part(key))?;
        Ok(content)
    }

    /// The URL of an image or video: that of an object, or, as some clients send it, alone. `at` ends with a dot.
    fn url(&mut self, source: Option<Value>, at: &str) -> Result<Option<String>, ApiError> {
        let mut source = match source {
            Some(Value::Object(left)) => Keys { at, left },
            Some(Value::String(url)) => return Ok(Some(url)),
            _ => return Ok(None),
        };
        let url = source.take("url")?;
        // VLMEvalKit has its data set's number of frames here.
        source.frames("nframes", self.frames, &mut self.ignored)?;
        source.nothing_left(&mut self.ignored, |key, _| keys::of_medium(key))?;
        Ok(url)
    }
}

/// Checks how much there is to tokenise and to decode, before either is begun.
fn check_sizes(messages: &[ChatMessage], text_bytes: usize) -> Result<(), ApiError> {
    let (mut bytes, mut media) = (0, 0);
    for part in messages.iter().flat_map(|message| &message.parts) {
        match part {
            ChatPart::Text(text) => bytes += text.len(),
            ChatPart::Medium { .. } => media += 1,
        }
    }
    if bytes > text_bytes {
        let message = format!(
            "the messages have {bytes} bytes of text, more than the {text_bytes} that can fit the model's context"
        );
        return Err(ApiError::bad_value("messages", message));
    }
    if media > MOST_MEDIA {
        let message =
            format!("the messages have {media} images and videos; at most {MOST_MEDIA} are taken");
        return Err(ApiError::bad_value("messages", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_strings() {
        for (text, count) in
            [("1", 1), (r#"{"a": [1, 2], "b,[{\"," : "\\"}"#, 5), ("[[[[", 5), (r#"["\\", "," ]"#, 3)]
        {
            assert_eq!(values(text.as_bytes()), count, "{text}");
        }
    }

    #[test]
    fn a_body_of_very_many_values_is_refused_before_it_is_parsed() {
        let body = format!("[{}", "0,".repeat(MOST_VALUES));
        let limits = RequestLimits { max_tokens: 1, frames: None, text_bytes: 1 };
        let error = ChatRequest::parse(body.as_bytes(), limits).unwrap_err();
        assert_eq!(error.message, "the body has more than 100000 values");
    }
}
