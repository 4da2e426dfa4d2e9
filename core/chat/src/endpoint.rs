//! Requests to any path of a server.

use reqwest::{Method, Url};
use serde_json::Value;

use crate::connection::Connection;
use crate::error::ChatError;

/// A server's answer to one request.
#[derive(Debug)]
pub enum Answer {
    /// Body of a response with a status of success.
    Done(Vec<u8>),
    /// A refusal that a repetition would not change. `text` is the beginning of the body, without the key.
    Refused {
        /// Status code.
        status: u16,
        /// Beginning of the body.
        text: String,
    },
    /// No answer, or one of a server that is overloaded or broken (408, 425, 429, 5xx): the reason.
    Unreachable(String),
}

/// An OpenAI-compatible server with its other paths, which requests are sent to once.
#[derive(Debug)]
pub struct Endpoint {
    connection: Connection,
    base: Url,
}

impl Endpoint {
    pub(crate) fn new(connection: Connection, base: Url) -> Self {
        Self { connection, base }
    }

    /// Sends a GET request to a path below the server's root: `/health`.
    ///
    /// # Errors
    /// [`ChatError`] for a key that cannot be sent.
    pub async fn get(&self, path: &str) -> Result<Answer, ChatError> {
        self.connection.ask(Method::GET, self.at(path), None).await
    }

    /// Sends JSON to a path below the server's root: `/v1/chat/completions`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, ChatError> {
        self.connection.ask(Method::POST, self.at(path), Some(body.to_string().into_bytes())).await
    }

    fn at(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }
}
