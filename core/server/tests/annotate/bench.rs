//! A small run on disk, and a client of the server over it.

use std::fs;
use std::path::Path;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use isr_api::records::Annotation;
use isr_server::annotate::{AnnotateOptions, router};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// What a sample was answered, first and second.
pub(crate) fn answers(sample: usize) -> [String; 2] {
    [format!("answer one of {sample}"), format!("answer two of {sample}")]
}

/// A run with some samples in iteration 1, each about a clip of 100 bytes.
pub(crate) fn run(samples: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let iteration = folder.path().join("run/iteration-01");
    fs::create_dir_all(&iteration).unwrap();
    fs::write(folder.path().join("clip.mp4"), (0..100).collect::<Vec<u8>>()).unwrap();
    let response = |text: String| json!({ "text": text, "token_ids": [1], "logprobs": [-1.0], "finish_reason": "stop", "policy": "p" });
    let mut lines = String::new();
    for sample in 0..samples {
        let [first, second] = answers(sample);
        // The second one sampled says the same as the first; the third is what it is compared with.
        let responses: Vec<Value> = [first.clone(), first, second].map(response).to_vec();
        let id = format!("s{sample}");
        let line = json!({ "sample": id, "video": "clip.mp4", "instruction": format!("question {sample}?"), "seed": 1, "responses": responses });
        lines.push_str(&format!("{line}\n"));
    }
    // Of a sample that was answered twice alike there is nothing to ask.
    let same = [response("same".to_owned()), response("same".to_owned())];
    let line =
        json!({ "sample": "same", "video": "clip.mp4", "instruction": "?", "seed": 1, "responses": same });
    lines.push_str(&format!("{line}\n"));
    fs::write(iteration.join("responses.jsonl"), lines).unwrap();
    folder
}

pub(crate) fn session(folder: &Path, annotator: &str) -> AnnotateOptions {
    AnnotateOptions {
        run: folder.join("run"),
        iteration: None,
        annotator: annotator.to_owned(),
        video_root: folder.to_owned(),
    }
}

/// The lines of `annotations.jsonl`.
pub(crate) fn recorded(folder: &Path) -> Vec<Annotation> {
    let text = fs::read_to_string(folder.join("run/annotations.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A browser's half of the talk.
pub(crate) struct Client {
    pub(crate) router: Router,
}

impl Client {
    pub(crate) fn new(folder: &Path, annotator: &str) -> Self {
        Self { router: router(&session(folder, annotator)).unwrap() }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap().to_vec())
    }

    pub(crate) async fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, Vec<u8>) {
        let mut request = Request::get(path).header("host", "localhost:8001");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn state(&self) -> Value {
        let (status, _, body) = self.get("/api/state", &[]).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::post(path)
            .header("host", "127.0.0.1")
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()));
        let (status, _, body) = self.send(request.unwrap()).await;
        (status.as_u16(), serde_json::from_slice(&body).unwrap())
    }

    /// Picks for the pair that is shown; returns what is shown next.
    pub(crate) async fn pick(&self, pick: &str) -> Value {
        let case = self.state().await["case"]["index"].clone();
        let (status, state) =
            self.post("/api/pick", &json!({ "case": case, "pick": pick, "seconds": 1.5 })).await;
        assert_eq!(status, 200, "{state}");
        state
    }

    /// Picks the answer that the run compares first, wherever it is shown.
    pub(crate) async fn pick_first(&self) -> Value {
        let state = self.state().await;
        let left = state["case"]["answers"][0].as_str().unwrap();
        self.pick(if left.starts_with("answer one") { "left" } else { "right" }).await
    }
}
