//! The page, and what it asks for.

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
use serde::Deserialize;
use serde_json::{Value, json};

use crate::annotate::desk::{Desk, Pick};
use crate::annotate::error::AnnotateError;
use crate::annotate::{Session, clip};
use crate::http::Guard;

const PAGE: &str = include_str!("page.html");

/// Nothing but this server, and what stands in the page.
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     connect-src 'self'; media-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Longest body that the page sends, in bytes.
const LONGEST_BODY: usize = 4096;

/// A day: whoever says more has left the page open.
const LONGEST_SECONDS: f64 = 86_400.0;

struct Office {
    desk: Mutex<Desk>,
    video_root: PathBuf,
}

/// The server of one session as a router, for [`crate::http::serve`]. The run is locked against a second one
/// while it lives.
///
/// # Errors
/// [`AnnotateError`] where the run has no pairs, is damaged, or is being annotated already.
pub fn router(session: &Session) -> Result<Router, AnnotateError> {
    let (desk, video_root) = (Mutex::new(Desk::open(session)?), session.video_root.clone());
    let office = Arc::new(Office { desk, video_root });
    Ok(Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/api/state", get(state))
        .route("/api/pick", post(pick))
        .route("/api/undo", post(undo))
        .route("/clip/{case}", get(whole_clip))
        .route("/clip/{case}/{frame}", get(one_frame))
        .layer(from_fn(guard))
        .with_state(office))
}

/// Lets only this machine in, and tells the browser to let nothing else.
async fn guard(request: Request, next: Next) -> Response {
    if let Err(refusal) = Guard::Loopback.check(request.uri(), request.headers()) {
        return Refused(StatusCode::FORBIDDEN, refusal.to_string()).into_response();
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

/// An error that the page shows.
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

/// What a person did.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Picked {
    case: usize,
    pick: Pick,
    seconds: f64,
}

async fn state(State(office): State<Arc<Office>>) -> Response {
    office.state()
}

async fn pick(State(office): State<Arc<Office>>, request: Request) -> Result<Response, Refused> {
    let Picked { case, pick, seconds } = read(request).await?;
    if !(0.0..).contains(&seconds) {
        return Err(bad(format!("seconds is {seconds}; it must be 0 or more")));
    }
    let recorded =
        office.with_desk(move |desk| desk.pick(case, pick, seconds.min(LONGEST_SECONDS))).await?;
    match recorded {
        true => Ok(office.state()),
        false => {
            Err(Refused(StatusCode::CONFLICT, "this pair is not the one that is asked about".to_owned()))
        }
    }
}

async fn undo(State(office): State<Arc<Office>>, request: Request) -> Result<Response, Refused> {
    let _: serde_json::Map<String, Value> = read(request).await?;
    match office.with_desk(Desk::undo).await? {
        true => Ok(office.state()),
        false => Err(Refused(StatusCode::CONFLICT, "there is nothing to undo".to_owned())),
    }
}

async fn whole_clip(
    State(office): State<Arc<Office>>,
    Path(case): Path<usize>,
    request: Request,
) -> Response {
    match office.video(case) {
        Some(path) => clip::file(&path, request).await,
        None => no_such_case(),
    }
}

async fn one_frame(
    State(office): State<Arc<Office>>,
    Path((case, frame)): Path<(usize, usize)>,
    request: Request,
) -> Response {
    let path = office.video(case).and_then(|path| clip::frames(&path).into_iter().nth(frame));
    match path {
        Some(path) => clip::file(&path, request).await,
        None => no_such_case(),
    }
}

fn no_such_case() -> Response {
    Refused(StatusCode::NOT_FOUND, "there is no such clip".to_owned()).into_response()
}

impl Office {
    /// Does what writes to the disk on a thread that may wait for it.
    async fn with_desk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Desk) -> Result<T, AnnotateError> + Send + 'static,
    ) -> Result<T, Refused> {
        let office = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            work(&mut office.desk.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let outcome =
            done.await.map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()));
        Ok(outcome??)
    }

    /// What the page shows. It does not say which answer is the run's first.
    fn state(&self) -> Response {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let case = desk.current().map(|shown| {
            let path = self.video_root.join(&shown.case.video);
            json!({
                "index": shown.index,
                "instruction": shown.case.instruction,
                "answers": shown.answers,
                "frames": clip::frames(&path).len(),
                "found": path.exists(),
            })
        });
        let value = json!({
            "annotator": desk.annotator(),
            "done": desk.done(),
            "total": desk.total(),
            "skipped": desk.skipped(),
            "can_undo": desk.can_undo(),
            "case": case,
        });
        json_body(StatusCode::OK, &value)
    }

    fn video(&self, case: usize) -> Option<PathBuf> {
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        Some(self.video_root.join(&desk.case(case)?.video))
    }
}

/// A JSON body. Pages of other hosts cannot send that kind without asking.
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
