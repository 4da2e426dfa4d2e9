//! Errors of starting a server, and error replies to clients.

use std::path::PathBuf;

use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use isr_api::ComponentError;
use serde_json::{Value, json};

use crate::http::AuthError;
use crate::openai::reply;

/// Reason for which a server cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// An allowed folder does not exist or is not a folder.
    #[error("--allow-dir {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A limit is 0; the field is its command-line flag.
    #[error("--{0} is 0; it must be at least 1")]
    Limit(&'static str),
}

/// Error reply in the OpenAI API's format.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    /// Request key that caused the error.
    param: Option<String>,
    pub(crate) message: String,
}

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: Option<&'static str>, message: String) -> Self {
        Self { status, kind, code, param: None, message }
    }

    /// 400 for a bad request.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", None, message.into())
    }

    /// 400 for a bad value of the key `param`.
    pub(crate) fn bad_value(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::bad(message) }
    }

    pub(crate) fn refused(error: AuthError) -> Self {
        let (status, code) = match error {
            AuthError::Token => (StatusCode::UNAUTHORIZED, "invalid_api_key"),
            AuthError::Host => (StatusCode::FORBIDDEN, "wrong_host"),
        };
        Self::new(status, "invalid_request_error", Some(code), error.to_string())
    }

    pub(crate) fn no_such_path(method: &str, path: &str) -> Self {
        let message = format!("there is no {method} {path} here; see docs/serving.md");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("unknown_url"), message)
    }

    pub(crate) fn wrong_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", None, message)
    }

    pub(crate) fn no_such_model(asked: &str, served: &str) -> Self {
        let message = format!("there is no model `{asked}` here; this server has `{served}`");
        let error =
            Self::new(StatusCode::NOT_FOUND, "invalid_request_error", Some("model_not_found"), message);
        Self { param: Some("model".to_owned()), ..error }
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("the body is longer than the {limit} bytes that this server takes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request_error", None, message)
    }

    pub(crate) fn not_json() -> Self {
        let message = "send the body as `Content-Type: application/json`".to_owned();
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request_error", None, message)
    }

    pub(crate) fn too_slow() -> Self {
        let message = "the body did not come in time".to_owned();
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request_error", None, message)
    }

    pub(crate) fn queue_full(queue: usize) -> Self {
        let message =
            format!("{queue} requests are under way, which is all that this server takes; try again");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full"), message)
    }

    pub(crate) fn share_full(share: usize) -> Self {
        let message = format!(
            "{share} requests of your address are under way, which is all that one address may have; try again"
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("queue_full"), message)
    }

    /// 429 where other requests take the memory.
    pub(crate) fn crowded() -> Self {
        let message = "other requests take the memory that this server has for them; try again".to_owned();
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", Some("out_of_memory"), message)
    }

    /// 500 for a failure of the model; details go to the log only.
    fn failed(error: &ComponentError) -> Self {
        tracing::error!(%error, "a request failed");
        let message = "the model failed; the server's log says how".to_owned();
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", None, message)
    }

    /// The error's JSON, also sent as the last event of a stream that fails.
    pub(crate) fn body(&self) -> Value {
        let Self { kind, code, param, message, .. } = self;
        json!({ "error": { "message": message, "type": kind, "param": param, "code": code } })
    }
}

impl From<ComponentError> for ApiError {
    fn from(error: ComponentError) -> Self {
        match error {
            ComponentError::BadInput(cause) => Self::bad_value("messages", cause.to_string()),
            error => Self::failed(&error),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = reply::json(self.status, &self.body());
        let headers = response.headers_mut();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
