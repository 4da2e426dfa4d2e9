//! The page and its HTTP routes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use isr_api::VideoSpan;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::annotate::error::AnnotateError;
use crate::annotate::session::{Pick, Session};
use crate::annotate::{AnnotateOptions, clip};
use crate::http::Auth;

const PAGE: &str = include_str!("page.html");

/// Content-Security-Policy: this server and inline code only.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     connect-src 'self'; media-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Largest request body, in bytes.
const LONGEST_BODY: usize = 4096;

/// Upper bound of a recorded time, one day: longer times mean a page left open.
const LONGEST_SECONDS: f64 = 86_400.0;

struct Annotating {
    session: Mutex<Session>,
    video_root: PathBuf,
}

/// Builds the router of one annotation session, for [`crate::http::serve`]. It holds the run's annotation lock until it is dropped.
///
/// # Errors
/// [`AnnotateError`] where the run has no pairs, is damaged, or is locked by another session, or the annotator's name is empty.
pub fn router(options: &AnnotateOptions) -> Result<Router, AnnotateError> {
    let (session, video_root) = (Mutex::new(Session::open(options)?), options.video_root.clone());
    let server = Arc::new(Annotating { session, video_root });
    Ok(Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/api/state", get(state))
        .route("/api/pick", post(pick))
        .route("/api/undo", post(undo))
        .route("/clip/{case}", get(whole_clip))
        .route("/clip/{case}/{frame}", get(one_frame))
        .layer(from_fn(authorize))
        .with_state(server))
}

/// Refuses requests of other hosts, and sets security headers.
async fn authorize(request: Request, next: Next) -> Response {
    if let Err(error) = Auth::Loopback.check(request.uri(), request.headers()) {
        return Refused(StatusCode::FORBIDDEN, error.to_string()).into_response();
    }
    let mut response = next.run(request).await;
    let header = |name: HeaderName, value| (name, HeaderValue::from_static(value));
    response.headers_mut().extend([
        header(CONTENT_SECURITY_POLICY, POLICY),
        header(X_CONTENT_TYPE_OPTIONS, "nosniff"),
        header(REFERRER_POLICY, "no-referrer"),
        header(CACHE_CONTROL, "no-store"),
    ]);
    response
}

/// Error reply, shown by the page.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        json_body(self.0, &json!({ "error": self.1 }))
    }
}

impl From<AnnotateError> for Refused {
    fn from(error: AnnotateError) -> Self {
        tracing::error!(%error, "an annotation was not recorded");
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

/// Body of `POST /api/pick`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Picked {
    case: usize,
    pick: Pick,
    seconds: f64,
}

async fn state(State(server): State<Arc<Annotating>>) -> Response {
    server.state()
}

async fn pick(State(server): State<Arc<Annotating>>, request: Request) -> Result<Response, Refused> {
    let Picked { case, pick, seconds } = read(request).await?;
    if !(0.0..).contains(&seconds) {
        return Err(bad(format!("seconds is {seconds}; it must be 0 or more")));
    }
    let recorded =
        server.with_session(move |session| session.pick(case, pick, seconds.min(LONGEST_SECONDS))).await?;
    match recorded {
        true => Ok(server.state()),
        false => {
            Err(Refused(StatusCode::CONFLICT, "this pair is not the one that is asked about".to_owned()))
        }
    }
}

async fn undo(State(server): State<Arc<Annotating>>, request: Request) -> Result<Response, Refused> {
    let _: serde_json::Map<String, Value> = read(request).await?;
    match server.with_session(Session::undo).await? {
        true => Ok(server.state()),
        false => Err(Refused(StatusCode::CONFLICT, "there is nothing to undo".to_owned())),
    }
}

async fn whole_clip(
    State(server): State<Arc<Annotating>>,
    Path(case): Path<usize>,
    request: Request,
) -> Response {
    match server.video(case) {
        Some(path) => clip::file(&path, request).await,
        None => no_such_case(),
    }
}

async fn one_frame(
    State(server): State<Arc<Annotating>>,
    Path((case, frame)): Path<(usize, usize)>,
    request: Request,
) -> Response {
    let path = server.video(case).and_then(|path| clip::frames(&path).into_iter().nth(frame));
    match path {
        Some(path) => clip::file(&path, request).await,
        None => no_such_case(),
    }
}

fn no_such_case() -> Response {
    Refused(StatusCode::NOT_FOUND, "there is no such clip".to_owned()).into_response()
}

impl Annotating {
    /// Runs `work`, which writes to disk, on the blocking pool.
    async fn with_session<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Session) -> Result<T, AnnotateError> + Send + 'static,
    ) -> Result<T, Refused> {
        let server = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut server.session.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let outcome =
            done.await.map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()));
        Ok(outcome??)
    }

    /// State for the page. It hides which response the run sampled first.
    fn state(&self) -> Response {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let case = session.current().map(|shown| {
            let video = self.video_root.join(&shown.case.video);
            let (path, span) = VideoSpan::split(&video);
            json!({
                "index": shown.index,
                "instruction": shown.case.instruction,
                "answers": shown.answers,
                "frames": clip::frames(path).len(),
                "found": path.exists(),
                // The player's part of the clip.
                "span": span.map(|span| span.to_string()).unwrap_or_default(),
            })
        });
        let value = json!({
            "annotator": session.annotator(),
            "done": session.done(),
            "total": session.total(),
            "skipped": session.skipped(),
            "can_undo": session.can_undo(),
            "case": case,
        });
        json_body(StatusCode::OK, &value)
    }

    fn video(&self, case: usize) -> Option<PathBuf> {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let video = self.video_root.join(&session.case(case)?.video);
        Some(VideoSpan::split(&video).0.to_owned())
    }
}

/// Parses a JSON body. Requiring this content type forces a CORS preflight on pages of other origins.
async fn read<T: serde::de::DeserializeOwned>(request: Request) -> Result<T, Refused> {
    if !is_json(request.headers()) {
        let message = "send the body as `Content-Type: application/json`".to_owned();
        return Err(Refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    let body = to_bytes(request.into_body(), LONGEST_BODY).await.map_err(|error| bad(error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

fn bad(message: String) -> Refused {
    Refused(StatusCode::BAD_REQUEST, message)
}

fn json_body(status: StatusCode, value: &Value) -> Response {
    let mut response = (status, Body::from(value.to_string())).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
