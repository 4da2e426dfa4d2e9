//! Server state, and handling of a completion request.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response as HttpResponse;
use isr_api::{ComponentError, FrozenPolicy, GenerateRequest, Message, Progress, Prompt, Response, Role};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::Duration;

use crate::http::{Auth, Origin, Peer};
use crate::openai::allowed::AllowedFolders;
use crate::openai::bodies::{Bodies, Received};
use crate::openai::error::{ApiError, ServeError};
use crate::openai::ignored;
use crate::openai::media::{Held, Media};
use crate::openai::metrics::Metrics;
use crate::openai::queue::{Place, Queue};
use crate::openai::reply::{self, ReplyHead};
use crate::openai::request::{ChatMessage, ChatRequest, RequestLimits};
use crate::openai::stream::Streaming;
use crate::openai::{ServeOptions, Served};

/// Time limit for receiving a request body.
const BODY_TIME: Duration = Duration::from_secs(60);

/// Bodies of the largest size that memory is kept for.
const LARGEST_BODIES: usize = 8;

/// State shared by all requests.
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) started: u64,
    pub(crate) auth: Auth,
    pub(crate) queue: Arc<Queue>,
    pub(crate) metrics: Arc<Metrics>,
    policy: FrozenPolicy,
    media: Media,
    system: Option<String>,
    limits: RequestLimits,
    bodies: Arc<Bodies>,
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
            limits: RequestLimits {
                max_tokens: options.max_tokens,
                frames: options.frames,
                text_bytes: options.text_bytes,
            },
            bodies: Bodies::new(
                options.body_bytes,
                options.body_bytes.saturating_mul(LARGEST_BODIES),
                BODY_TIME,
            ),
        })
    }

    /// `POST /v1/chat/completions`.
    pub(crate) async fn complete(self: Arc<Self>, request: Request) -> Result<HttpResponse, ApiError> {
        let peer = request.extensions().get::<Peer>().cloned();
        let origin = peer.as_ref().map_or(Origin::INSIDE, Peer::origin);
        // A full server says so before it receives anything; the place is taken when all has come, so that slow clients
        // keep none from others.
        self.queue.check(origin)?;
        let body = self.body(request, origin).await?;
        let place = self.queue.enter(peer)?;
        let request = ChatRequest::parse(&body.bytes, self.limits)?;
        let ignored = request.ignored.value();
        let mut response = self.answer(request, body, place).await?;
        if let Some(ignored) = ignored {
            response.headers_mut().insert(ignored::HEADER, ignored);
        }
        Ok(response)
    }

    async fn answer(
        &self,
        request: ChatRequest,
        body: Received,
        place: Place,
    ) -> Result<HttpResponse, ApiError> {
        if request.model != self.name {
            return Err(ApiError::no_such_model(&request.model, &self.name));
        }
        let (n, seed) = (request.n, request.seed.unwrap_or_else(rand::random));
        let (prompt, held) = self.prompt(request.messages).await?;
        drop(body);
        let asked = GenerateRequest { prompt, sampling: request.sampling, n, seed };
        if request.stream {
            let (told, progress) = unbounded_channel();
            let policy = self.policy.clone();
            let answers = Box::pin(async move {
                let _held = held;
                policy.generate_streaming(asked, told).await
            });
            let head = ReplyHead::new(&self.name);
            let metrics = Arc::clone(&self.metrics);
            let streaming =
                Streaming::new(head, metrics, place, n, request.include_usage, answers, progress);
            return streaming.respond().await;
        }
        let (responses, prompt_tokens) = self.answers(asked).await?;
        drop((held, place));
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

    async fn body(&self, request: Request, origin: Origin) -> Result<Received, ApiError> {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return Err(ApiError::not_json());
        }
        let announced =
            parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        self.bodies.receive(body, announced, origin).await
    }

    /// The policy's prompt for a conversation, with its media decoded.
    async fn prompt(&self, messages: Vec<ChatMessage>) -> Result<(Prompt, Held), ApiError> {
        let has_system = messages.iter().any(|message| message.role == Role::System);
        let (mut prompt, mut held) = (Prompt::default(), Held::default());
        for ChatMessage { role, parts } in messages {
            let parts = self.media.parts(parts, &mut held).await?;
            prompt.messages.push(Message { role, parts });
        }
        let prompt = match &self.system {
            Some(system) if !has_system => prompt.with_system(system),
            _ => prompt,
        };
        Ok((prompt, held))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = value.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}
