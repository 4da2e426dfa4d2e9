//! Routes.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;

use crate::openai::app::App;
use crate::openai::error::{ApiError, ServeError};
use crate::openai::{ServeOptions, Served, models, reply};

/// Values of the label `path` of request counters; all other paths are `other`.
const COUNTED: [&str; 4] = ["/v1/chat/completions", "/v1/models", "/health", "/metrics"];

/// Builds the server's router, for [`crate::http::serve`].
///
/// # Errors
/// [`ServeError::Limit`] for a limit of 0, [`ServeError::Folder`] for an allowed folder that does not exist.
pub fn router(served: Served, options: ServeOptions) -> Result<Router, ServeError> {
    let app = Arc::new(App::new(served, options)?);
    let guarded = Router::new()
        .route("/v1/chat/completions", post(complete))
        .route("/v1/models", get(list_models))
        .route("/v1/models/{*name}", get(one_model))
        .route("/metrics", get(metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), authorize));
    let open = Router::new().route("/health", get(health));
    Ok(open.merge(guarded).layer(from_fn_with_state(Arc::clone(&app), count)).with_state(app))
}

async fn complete(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    app.complete(request).await
}

async fn list_models(State(app): State<Arc<App>>) -> Response {
    reply::json(StatusCode::OK, &models::list(&app))
}

async fn one_model(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Response, ApiError> {
    Ok(reply::json(StatusCode::OK, &models::named(&app, &name)?))
}

async fn health() -> Response {
    reply::json(StatusCode::OK, &json!({ "status": "ok" }))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut response = app.metrics.text(app.queue.under_way()).into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

async fn no_such_path(request: Request) -> ApiError {
    ApiError::no_such_path(request.method().as_str(), request.uri().path())
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::wrong_method(request.method().as_str(), request.uri().path())
}

async fn authorize(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    app.auth.check(request.uri(), request.headers()).map_err(ApiError::refused)?;
    Ok(next.run(request).await)
}

async fn count(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let counted = COUNTED.into_iter().find(|counted| *counted == path).unwrap_or("other");
    let response = next.run(request).await;
    app.metrics.answered(counted, response.status().as_u16());
    response
}
