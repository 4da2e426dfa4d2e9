//! A single HTTP exchange with the server.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode, Url};

use crate::backoff::retry_after;
use crate::endpoint::Answer;
use crate::error::ChatError;
use crate::reply::Reply;

/// Maximum size of a response body in bytes; bounds the memory that a hostile server can use.
const LONGEST_BODY: usize = 4 << 20;

/// Maximum length of a response body in an error message, in characters.
const SHOWN: usize = 300;

/// An API key that is redacted in debug output and error messages.
pub(crate) struct Secret(String);

impl Secret {
    /// Reads the key from an environment variable.
    pub(crate) fn from_env(variable: &str) -> Result<Self, ChatError> {
        match std::env::var(variable) {
            Ok(key) if !key.trim().is_empty() => Ok(Self(key.trim().to_owned())),
            _ => Err(ChatError::NoKey { variable: variable.to_owned() }),
        }
    }

    fn header(&self) -> Result<HeaderValue, ChatError> {
        let value = HeaderValue::from_str(&format!("Bearer {}", self.0));
        let mut value =
            value.map_err(|_| ChatError::Client("the key is no text for a header".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The text with the key redacted, in case a server echoes it.
    fn redact(&self, text: &str) -> String {
        text.replace(&self.0, "***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Outcome of sending a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A completion.
    Reply(Reply),
    /// Transient failure: retry, after the delay that the server asked for.
    Again { reason: String, wait: Option<Duration> },
    /// Permanent failure. `text` is the beginning of the body, without the key.
    Refused { status: StatusCode, text: String, body: Vec<u8> },
}

/// HTTP client for one endpoint.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Client,
    url: Url,
    key: Option<Secret>,
}

impl Connection {
    pub(crate) fn new(
        url: Url,
        key: Option<Secret>,
        timeout: Duration,
        ca_file: Option<&Path>,
    ) -> Result<Self, ChatError> {
        // Fails if the process already has a provider, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        if let Some(path) = ca_file {
            builder = builder.tls_certs_merge(authorities(path)?);
        }
        let client = builder.build().map_err(|error| ChatError::Client(error.to_string()))?;
        Ok(Self { client, url, key })
    }

    /// The endpoint's address.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Sends a request body and reads the response, within the time-out.
    pub(crate) async fn exchange(&self, body: Vec<u8>) -> Result<Outcome, ChatError> {
        Ok(match self.request(Method::POST, self.url.clone(), Some(body))?.send().await {
            Ok(response) => self.outcome(response).await,
            Err(error) => Outcome::Again { reason: reason(error), wait: None },
        })
    }

    /// Sends a request to another path of the server, and reads its answer.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, ChatError> {
        let response = match self.request(method, url, body)?.send().await {
            Ok(response) => response,
            Err(error) => return Ok(Answer::Unreachable(reason(error))),
        };
        let status = response.status();
        let body = match read(response).await {
            Ok(body) => body,
            Err(reason) => return Ok(Answer::Unreachable(reason)),
        };
        Ok(match status.is_success() {
            true => Answer::Done(body),
            false if is_passing(status) => {
                Answer::Unreachable(format!("the server said {status} {}", self.excerpt(&body)))
            }
            false => Answer::Refused { status: status.as_u16(), text: self.excerpt(&body) },
        })
    }

    fn request(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
    ) -> Result<RequestBuilder, ChatError> {
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        if let Some(key) = &self.key {
            request = request.header(AUTHORIZATION, key.header()?);
        }
        Ok(request)
    }

    async fn outcome(&self, response: Response) -> Outcome {
        let status = response.status();
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wait = header.and_then(|value| retry_after(value, SystemTime::now()));
        let body = match read(response).await {
            Ok(body) => body,
            // The status suffices to classify the failure.
            Err(_) if !status.is_success() => Vec::new(),
            Err(reason) => return Outcome::Again { reason, wait },
        };
        if status.is_success() {
            return match Reply::parse(&body) {
                Ok(reply) => Outcome::Reply(Reply { text: self.redact(&reply.text), ..reply }),
                Err(reason) => Outcome::Again { reason: self.redact(&reason), wait },
            };
        }
        let text = self.excerpt(&body);
        match is_passing(status) {
            true => Outcome::Again { reason: format!("the server said {status} {text}"), wait },
            false => Outcome::Refused { status, text, body },
        }
    }

    /// The text without the key: what a server says ends in journals, caches and reports.
    fn redact(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.redact(text))
    }

    /// Beginning of a response body, for an error message.
    fn excerpt(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        // JSON may write `/` as `\/`.
        let text = self.redact(&text.replace("\\/", "/"));
        text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect()
    }
}

/// Reads the certificates of a PEM file.
fn authorities(path: &Path) -> Result<Vec<Certificate>, ChatError> {
    let wrong = |reason: String| ChatError::Authorities { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if certificates.is_empty() => Err(wrong("there is none in it".to_owned())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(reason(error))),
    }
}

/// Whether a status is transient: overload, broken gateway, restarting server.
fn is_passing(status: StatusCode) -> bool {
    let waiting = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    status.is_server_error() || waiting.contains(&status)
}

/// Whether the host is this machine, which a proxy could not reach.
fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reason)? {
        if body.len() + chunk.len() > LONGEST_BODY {
            return Err(format!("the reply is longer than {LONGEST_BODY} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Message of an error with its causes, without the address.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        return "no reply within timeout_s".to_owned();
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
