//! Requests that are paced, paid for, cached, and tried again.

use isr_api::{ComponentError, Streams};
use reqwest::StatusCode;

use super::backoff::Backoff;
use super::budget::Budget;
use super::cache::Cache;
use super::connection::{Connection, Outcome};
use super::pace::Pace;
use super::reply::Reply;
use crate::error::JudgeError;

/// A server's chat completions.
#[derive(Debug)]
pub(crate) struct ChatClient {
    pub(crate) connection: Connection,
    pub(crate) pace: Pace,
    pub(crate) budget: Budget,
    pub(crate) backoff: Backoff,
    /// How often a request is sent again after the first time.
    pub(crate) retries: usize,
    pub(crate) cache: Option<Cache>,
}

impl ChatClient {
    /// The reply to a body. The draw is the random stream of this asking: of its waits, and of its name in
    /// the cache.
    pub(crate) async fn complete(&self, body: Vec<u8>, draw: u64) -> Result<Reply, ComponentError> {
        let key = Cache::key(self.connection.url(), &body, draw);
        if let Some(reply) = self.cache.as_ref().and_then(|cache| cache.get(&key)) {
            return Ok(reply);
        }
        let reply = self.fetch(&body, draw).await?;
        if let Some(cache) = &self.cache {
            cache.put(&key, &reply);
        }
        // After the reply is safe: a budget that it exceeds must not lose it.
        self.budget.book_reply(reply.usage).map_err(ComponentError::failed)?;
        Ok(reply)
    }

    /// Sends until there is a reply.
    async fn fetch(&self, body: &[u8], draw: u64) -> Result<Reply, ComponentError> {
        let mut rng = Streams::new(draw).rng(0, "backoff", "");
        let mut failure = 0;
        loop {
            let (reason, wait) = match self.send(body).await.map_err(ComponentError::failed)? {
                Outcome::Reply(reply) => return Ok(reply),
                Outcome::Refused { status, text } => return Err(refused(status, text)),
                Outcome::Again { reason, wait } => (reason, wait),
            };
            if failure == self.retries {
                return Err(ComponentError::failed(JudgeError::GaveUp { attempts: failure + 1, reason }));
            }
            tracing::debug!(failure, reason, "a request is sent again");
            let own = self.backoff.wait(failure, &mut rng);
            // A server that asks for no wait at all is not to be hammered.
            match wait.filter(|asked| !asked.is_zero()) {
                // All wait, not only this one: the others would be turned away too.
                Some(asked) => {
                    self.pace.keep_quiet(self.backoff.obey(asked).map_err(ComponentError::failed)?);
                }
                None => tokio::time::sleep(own).await,
            }
            failure += 1;
        }
    }

    /// Sends once, in its turn and within the budget.
    async fn send(&self, body: &[u8]) -> Result<Outcome, JudgeError> {
        let _under_way = self.pace.turn().await?;
        self.budget.book_request()?;
        self.connection.exchange(body.to_vec()).await
    }
}

/// Whose fault a refusal is: this request's, or the config's.
fn refused(status: StatusCode, text: String) -> ComponentError {
    let case = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
    let error = JudgeError::Refused { status: status.to_string(), text };
    if case.contains(&status) { ComponentError::bad_input(error) } else { ComponentError::failed(error) }
}
