//! Requests to Ray's server of jobs.

use std::env;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::scheduler::SchedulerError;

/// Ray starts an agent on a node for its first job, and answers after that.
const PATIENCE: Duration = Duration::from_secs(120);

/// Characters of a refusal that are shown: the rest is a traceback.
const SHOWN: usize = 300;

/// How a job stands.
pub(super) enum Status {
    Pending,
    Running,
    Succeeded,
    /// It failed or was stopped, in Ray's words.
    Over(String),
}

/// A server.
pub(super) struct Client {
    client: reqwest::Client,
    address: String,
    token: Option<String>,
}

impl Client {
    pub(super) fn new(address: &str) -> Result<Self, SchedulerError> {
        // Another provider that the process already has serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = address.trim_end_matches('/').to_owned();
        let mut builder = reqwest::Client::builder().timeout(PATIENCE);
        if ["http://127.", "http://localhost"].iter().any(|it| address.starts_with(it)) {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| SchedulerError::Ray { address: address.clone(), reason: error.to_string() })?;
        let token = env::var("RAY_AUTH_TOKEN").ok().filter(|token| !token.is_empty());
        Ok(Self { client, address, token })
    }

    pub(super) async fn submit(&self, body: &Value) -> Result<(), SchedulerError> {
        let (status, text) = self.send(Method::POST, "/api/jobs/", Some(body)).await?;
        self.expect(status, &text)
    }

    /// Asks a job to stop; it is no error that it has ended.
    pub(super) async fn stop(&self, id: &str) -> Result<(), SchedulerError> {
        let (status, text) = self.send(Method::POST, &format!("/api/jobs/{id}/stop"), None).await?;
        if status == StatusCode::NOT_FOUND { Ok(()) } else { self.expect(status, &text) }
    }

    /// `None` where Ray knows no such job.
    pub(super) async fn status(&self, id: &str) -> Result<Option<Status>, SchedulerError> {
        let (status, text) = self.send(Method::GET, &format!("/api/jobs/{id}"), None).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.expect(status, &text)?;
        let body: Value = serde_json::from_str(&text).map_err(|error| self.error(error.to_string()))?;
        Ok(Some(match body["status"].as_str().unwrap_or_default() {
            "PENDING" => Status::Pending,
            "RUNNING" => Status::Running,
            "SUCCEEDED" => Status::Succeeded,
            "FAILED" | "STOPPED" => Status::Over(over(&body)),
            other => return Err(self.error(format!("job {id} has the unknown status `{other}`"))),
        }))
    }

    fn expect(&self, status: StatusCode, text: &str) -> Result<(), SchedulerError> {
        if status.is_success() {
            return Ok(());
        }
        // The last line of a traceback is its message.
        let message = text.lines().rev().map(str::trim).find(|line| line.len() > 1).unwrap_or_default();
        Err(self.error(format!("{status}: {}", message.chars().take(SHOWN).collect::<String>())))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, String), SchedulerError> {
        let mut request = self.client.request(method, format!("{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let failed = |error: reqwest::Error| {
            let cause = std::iter::successors(std::error::Error::source(&error), |it| it.source()).last();
            let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
            self.error(format!(
                "{cause}; is it running (`ray start --head`), and is this its dashboard's address?"
            ))
        };
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        Ok((status, response.text().await.map_err(failed)?))
    }

    fn error(&self, reason: String) -> SchedulerError {
        SchedulerError::Ray { address: self.address.clone(), reason }
    }
}

/// `exit status: 3`, or what Ray says where the command did not end by itself.
fn over(job: &Value) -> String {
    match (job["driver_exit_code"].as_i64(), job["message"].as_str()) {
        (Some(code), _) if code > 0 => format!("exit status: {code}"),
        (_, Some(message)) => message.chars().take(SHOWN).collect(),
        (_, None) => job["status"].to_string(),
    }
}
