//! Server state, and handling of a completion request.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response as HttpResponse;
use isr_api::{
    ComponentError, FrozenPolicy, GenerateRequest, Message, Part, Progress, Prompt, Response, Role,
};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Duration, timeout};

use crate::http::Auth;
use crate::openai::allowed::AllowedFolders;
use crate::openai::error::{ApiError, ServeError};
use crate::openai::media::Media;
use crate::openai::metrics::Metrics;
use crate::openai::queue::Queue;
use crate::openai::reply::{self, ReplyHead};
use crate::openai::request::{ChatMessage, ChatPart, ChatRequest};
use crate::openai::stream::Streaming;
use crate::openai::{ServeOptions, Served};

/// Time limit for receiving a request body.
const BODY_TIME: Duration = Duration::from_secs(60);

/// State shared by all requests.
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) started: u64,
    pub(crate) auth: Auth,
    pub(crate) queue: Queue,
    pub(crate) metrics: Arc<Metrics>,
    policy: FrozenPolicy,
    media: Media,
    system: Option<String>,
    max_tokens: usize,
    body_bytes: usize,
}

impl App {
    pub(crate) fn new(served: Served, options: ServeOptions) -> Result<Self, ServeError> {
        let limits =
            [(options.max_tokens, "max-tokens"), (options.queue, "queue"), (options.body_bytes, "body-mb")];
        if let Some((_, flag)) = limits.into_iter().find(|(limit, _)| *limit == 0) {
            return Err(ServeError::Limit(flag));
        }
        let Served { name, policy, videos, images, encoder, system } = served;
        let allowed = AllowedFolders::new(&options.allowed)?;
        let metrics = Arc::<Metrics>::default();
        Ok(Self {
            name,
            started: reply::now(),
            auth: options.auth,
            queue: Queue::new(options.queue, Arc::clone(&metrics)),
            metrics,
            policy,
            media: Media::new(videos, images, encoder, allowed, options.media_bytes),
            system,
            max_tokens: options.max_tokens,
            body_bytes: options.body_bytes,
        })
    }

    /// `POST /v1/chat/completions`.
    pub(crate) async fn complete(self: Arc<Self>, request: Request) -> Result<HttpResponse, ApiError> {
        // Before the body is read: bodies of waiting requests take memory too.
        let place = self.queue.enter()?;
        let body = self.body(request).await?;
        let request = ChatRequest::parse(&body, self.max_tokens)?;
        drop(body);
        if request.model != self.name {
            return Err(ApiError::no_such_model(&request.model, &self.name));
        }
        let (n, seed) = (request.n, request.seed.unwrap_or_else(rand::random));
        let prompt = self.prompt(request.messages).await?;
        let asked = GenerateRequest { prompt, sampling: request.sampling, n, seed };
        if request.stream {
            let (told, progress) = unbounded_channel();
            let policy = self.policy.clone();
            let answers = Box::pin(async move { policy.generate_streaming(asked, told).await });
            let head = ReplyHead::new(&self.name);
            let metrics = Arc::clone(&self.metrics);
            let streaming =
                Streaming::new(head, metrics, place, n, request.include_usage, answers, progress);
            return streaming.respond().await;
        }
        let (responses, prompt_tokens) = self.answers(asked).await?;
        self.metrics.wrote(prompt_tokens, &responses);
        let head = ReplyHead::new(&self.name);
        Ok(reply::json(StatusCode::OK, &head.completion(&responses, prompt_tokens, request.logprobs)))
    }

    /// All responses, and the prompt's length in tokens where the policy reports it.
    async fn answers(
        &self,
        request: GenerateRequest,
    ) -> Result<(Vec<Response>, Option<usize>), ComponentError> {
        let (told, mut progress) = unbounded_channel();
        let answers = self.policy.generate_streaming(request, told);
        let mut prompt_tokens = None;
        let listen = async {
            // The length comes first; nothing more is wanted.
            if let Some(Progress::Prompt { tokens }) = progress.recv().await {
                prompt_tokens = Some(tokens);
            }
            progress.close();
        };
        let (responses, ()) = tokio::join!(answers, listen);
        Ok((responses?, prompt_tokens))
    }

    async fn body(&self, request: Request) -> Result<axum::body::Bytes, ApiError> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(ApiError::not_json());
        }
        let announced =
            parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: usize| length > self.body_bytes) {
            return Err(ApiError::too_large(self.body_bytes));
        }
        read(body, self.body_bytes).await
    }

    /// The policy's prompt for a conversation, with its media decoded.
    async fn prompt(&self, messages: Vec<ChatMessage>) -> Result<Prompt, ApiError> {
        let has_system = messages.iter().any(|message| message.role == Role::System);
        let mut prompt = Prompt::default();
        for ChatMessage { role, parts } in messages {
            let mut said = Vec::with_capacity(parts.len());
            for part in parts {
                said.push(match part {
                    ChatPart::Text(text) => Part::Text(text),
                    ChatPart::Medium { medium, url, at } => {
                        Part::Video(self.media.open(medium, &url, &at).await?)
                    }
                });
            }
            prompt.messages.push(Message { role, parts: said });
        }
        Ok(match &self.system {
            Some(system) if !has_system => prompt.with_system(system),
            _ => prompt,
        })
    }
}

async fn read(body: Body, limit: usize) -> Result<axum::body::Bytes, ApiError> {
    match timeout(BODY_TIME, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_length_limit(&error) => Err(ApiError::too_large(limit)),
        Ok(Err(error)) => Err(ApiError::bad(format!("the body is cut off: {error}"))),
        Err(_) => Err(ApiError::too_slow()),
    }
}

/// axum hides the type of this error; its text is that of `http_body_util::LengthLimitError`.
fn is_length_limit(error: &axum::Error) -> bool {
    error.to_string().contains("length limit exceeded")
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
