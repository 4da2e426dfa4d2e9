//! A policy that repeats what it is asked, readers that note what they read, and a client.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, FinishReason, Frames, FrozenPolicy, GenerateRequest,
    Policy, PreferenceObjective, Progress, ProgressSender, Reasoning, Response, ScoreRequest, StepReport,
    TokenLogProbs, TrainStep, VideoReader,
};
use isr_server::openai::{ServeOptions, Served, router};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Says what it was asked, word by word. Some words make it do something else.
#[derive(Default)]
pub(crate) struct Echo {
    pub(crate) asked: Mutex<Vec<GenerateRequest>>,
    /// Requests whose client went away before the answer.
    pub(crate) abandoned: AtomicUsize,
}

/// Counts a call that does not come to its end.
struct Call<'e> {
    echo: &'e Echo,
    complete: bool,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.echo.abandoned.fetch_add(usize::from(!self.complete), Ordering::SeqCst);
    }
}

#[async_trait]
impl Policy for Echo {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("echo")
    }

    async fn generate(&self, _: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        Err(ComponentError::failed("the server asks for progress"))
    }

    async fn generate_streaming(
        &self,
        request: GenerateRequest,
        progress: ProgressSender,
    ) -> Result<Vec<Response>, ComponentError> {
        self.asked.lock().unwrap().push(request.clone());
        let mut call = Call { echo: self, complete: false };
        let said = request.prompt.transcript();
        if said.contains("too long") {
            call.complete = true;
            return Err(ComponentError::bad_input(
                "the prompt has 9 tokens, but the model's context holds 8",
            ));
        }
        let _ = progress.send(Progress::Prompt { tokens: said.split_whitespace().count() });
        let answers: Vec<Response> =
            (0..request.n).map(|index| reasoned(response(&format!("{index}: {said}")))).collect();
        for (answer, response) in answers.iter().enumerate() {
            if let Some(reasoning) = &response.reasoning {
                let text = reasoning.text[..2].to_owned();
                let _ = progress.send(Progress::Reasoning { answer, text });
            }
            let half = response.text.len() / 2;
            let text = response.text[..half].to_owned();
            let _ = progress.send(Progress::Text { answer, text });
        }
        // So that what was told is heard before the end.
        tokio::task::yield_now().await;
        if said.contains("hang") {
            std::future::pending::<()>().await;
        }
        call.complete = true;
        match said.contains("break") {
            true => Err(ComponentError::failed("secret path /srv/weights")),
            false => Ok(answers),
        }
    }

    async fn score(&self, _: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        Err(ComponentError::failed("no scores"))
    }

    async fn train_step(
        &self,
        _: TrainStep,
        _: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        Err(ComponentError::failed("no training"))
    }

    async fn save(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Ok(())
    }

    async fn load(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Ok(())
    }
}

/// A response whose first two tokens are reasoning, if it was asked to reason.
fn reasoned(response: Response) -> Response {
    let reasons = response.text.contains("reason");
    let reasoning = Reasoning { text: "let me see".to_owned(), tokens: 2 };
    Response { reasoning: reasons.then_some(reasoning), ..response }
}

fn response(text: &str) -> Response {
    Response {
        text: text.to_owned(),
        token_ids: vec![7, 8, 9],
        logprobs: vec![-0.5, -1.0, -0.25],
        finish_reason: FinishReason::Length,
        policy: Fingerprint::of("echo"),
        reasoning: None,
    }
}

/// Gives one grey pixel a byte of the file, and notes what it read.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) read: Mutex<Vec<PathBuf>>,
}

#[async_trait]
impl VideoReader for Reader {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("reader")
    }

    async fn read(&self, video: &Path) -> Result<Frames, ComponentError> {
        self.read.lock().unwrap().push(video.to_owned());
        let file = if video.is_dir() {
            std::fs::read_dir(video).unwrap().next().unwrap().unwrap().path()
        } else {
            video.to_owned()
        };
        let bytes = std::fs::read(&file).unwrap();
        if bytes.ends_with(b"damaged") {
            return Err(ComponentError::bad_input(format!(
                "{} is damaged: fetch it again",
                file.display()
            )));
        }
        let rgb = bytes.iter().flat_map(|byte| [*byte; 3]).collect();
        Frames::new(bytes.len() as u32, 1, rgb, vec![0.0])
    }
}

/// A server and what is behind it.
pub(crate) struct Bench {
    pub(crate) echo: Arc<Echo>,
    pub(crate) videos: Arc<Reader>,
    pub(crate) images: Arc<Reader>,
    pub(crate) router: Router,
}

impl Bench {
    pub(crate) fn new(options: ServeOptions) -> Self {
        let (echo, videos, images) =
            (Arc::<Echo>::default(), Arc::<Reader>::default(), Arc::<Reader>::default());
        let served = Served {
            name: "org/echo".to_owned(),
            policy: FrozenPolicy::new(echo.clone()),
            videos: videos.clone(),
            images: images.clone(),
            encoder: None,
            system: Some("be brief.".to_owned()),
        };
        Self { router: router(served, options).unwrap(), echo, videos, images }
    }

    /// Sends a request and reads all of the reply.
    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Reply { status: parts.status, headers: parts.headers, text }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        let request = Request::get(path).header("host", "localhost").body(Body::empty());
        self.send(request.unwrap()).await
    }

    pub(crate) async fn complete(&self, body: &Value) -> Reply {
        self.send(post(body)).await
    }

    /// A completion of one user message.
    pub(crate) async fn ask(&self, content: &Value) -> Reply {
        self.complete(&question(content)).await
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// Keys that were ignored.
    pub(crate) fn ignored(&self) -> Option<String> {
        self.headers.get("x-isr-ignored").map(|value| value.to_str().unwrap().to_owned())
    }

    /// Status and message of an error.
    pub(crate) fn error(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert!(error["type"].is_string() && error.get("param").is_some() && error.get("code").is_some());
        (self.status.as_u16(), error["message"].as_str().unwrap().to_owned())
    }

    /// The text of the first answer.
    pub(crate) fn answer(&self) -> String {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn question(content: &Value) -> Value {
    json!({ "model": "org/echo", "messages": [{ "role": "user", "content": content }] })
}

pub(crate) fn post(body: &Value) -> Request<Body> {
    Request::post("/v1/chat/completions")
        .header("host", "127.0.0.1:8000")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}
