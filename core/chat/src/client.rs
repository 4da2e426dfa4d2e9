//! Chat-completions client with cache, rate limit, budget and retries.

use isr_api::{ComponentError, Streams};
use reqwest::StatusCode;

use crate::backoff::Backoff;
use crate::budget::Budget;
use crate::cache::Cache;
use crate::connection::{Connection, Outcome};
use crate::error::ChatError;
use crate::pace::Pace;
use crate::refusal::named_parameter;
use crate::reply::Reply;
use crate::request::remedy;

/// Client of a server's chat completions.
#[derive(Debug)]
pub struct ChatClient {
    /// Who asks, for error messages: `judge` or `scorer`.
    pub(crate) role: &'static str,
    pub(crate) connection: Connection,
    pub(crate) pace: Pace,
    pub(crate) budget: Budget,
    pub(crate) backoff: Backoff,
    /// Maximum number of retries per request.
    pub(crate) retries: usize,
    pub(crate) cache: Option<Cache>,
}

impl ChatClient {
    /// The reply to a request body. The draw seeds the jitter of retries and is part of the cache key.
    ///
    /// # Errors
    /// [`ComponentError::BadInput`] if the server rejects this request (400, 413, 422) and names no parameter of it,
    /// else [`ComponentError::Failed`].
    pub async fn complete(&self, body: Vec<u8>, draw: u64) -> Result<Reply, ComponentError> {
        let key = Cache::key(self.connection.url(), &body, draw);
        if let Some(reply) = self.cache.as_ref().and_then(|cache| cache.get(&key)) {
            return Ok(reply);
        }
        let reply = self.fetch(&body, draw).await?;
        if let Some(cache) = &self.cache {
            cache.put(&key, &reply);
        }
        // After the reply is stored, so that exceeding the budget does not lose it.
        self.budget.book_reply(reply.usage).map_err(ComponentError::failed)?;
        Ok(reply)
    }

    /// Sends a request with retries.
    async fn fetch(&self, body: &[u8], draw: u64) -> Result<Reply, ComponentError> {
        let mut rng = Streams::new(draw).rng(0, "backoff", "");
        let mut failure = 0;
        loop {
            let (reason, wait) = match self.send(body).await.map_err(ComponentError::failed)? {
                Outcome::Reply(reply) => return Ok(reply),
                Outcome::Refused { status, text, body: refusal } => {
                    return Err(refused(self.role, status, text, body, &refusal));
                }
                Outcome::Again { reason, wait } => (reason, wait),
            };
            if failure == self.retries {
                return Err(ComponentError::failed(ChatError::GaveUp { attempts: failure + 1, reason }));
            }
            tracing::debug!(failure, reason, "a request is sent again");
            let own = self.backoff.wait(failure, &mut rng);
            // `Retry-After: 0` does not disable the backoff.
            match wait.filter(|asked| !asked.is_zero()) {
                // All requests wait: the others would be rejected, too.
                Some(asked) => {
                    self.pace.keep_quiet(self.backoff.obey(asked).map_err(ComponentError::failed)?);
                }
                None => tokio::time::sleep(own).await,
            }
            failure += 1;
        }
    }

    /// Sends a request once, within rate limit and budget.
    async fn send(&self, body: &[u8]) -> Result<Outcome, ChatError> {
        let _under_way = self.pace.turn().await?;
        self.budget.book_request()?;
        self.connection.exchange(body.to_vec()).await
    }
}

/// Bad input for a status that concerns this request only, else a failure of the run: also where the server names a
/// parameter that all requests have.
fn refused(
    role: &'static str,
    status: StatusCode,
    text: String,
    request: &[u8],
    refusal: &[u8],
) -> ComponentError {
    if matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)
        && let Ok(request) = serde_json::from_slice(request)
        && let Some(parameter) = named_parameter(&request, refusal)
    {
        let (status, remedy) = (status.to_string(), remedy(&parameter, role));
        return ComponentError::failed(ChatError::Parameter { status, text, role, parameter, remedy });
    }
    let case = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
    let error = ChatError::Refused { status: status.to_string(), text };
    if case.contains(&status) { ComponentError::bad_input(error) } else { ComponentError::failed(error) }
}
