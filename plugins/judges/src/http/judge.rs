//! The judge `http` at run time.

use async_trait::async_trait;
use futures::future::join_all;
use isr_api::{ComponentError, FrozenPolicy, Judge, JudgeCase, Orders, Streams, Verdict, Vote};
use isr_chat::{ChatClient, RequestStyle, data_urls};

use crate::ask::{Comparison, unreadable};
use crate::comparison_prompt::presented;
use crate::error::JudgeError;

/// Judge built by [`HttpJudgeConfig`](super::HttpJudgeConfig).
#[derive(Debug)]
pub(crate) struct HttpJudge {
    pub(crate) client: ChatClient,
    pub(crate) comparison: Comparison,
    pub(crate) style: RequestStyle,
    pub(crate) orders: Orders,
    /// Number of frames per request; `None` for text only.
    pub(crate) frames: Option<usize>,
    /// Temperature of the first attempt, and of those after it; `None` sends none.
    pub(crate) temperatures: [Option<f64>; 2],
    pub(crate) attempts: usize,
}

impl HttpJudge {
    /// Limit of a reply, for error messages.
    fn limit(&self) -> String {
        match self.style.max_tokens {
            0 => "the server's own limit (max_tokens = 0)".to_owned(),
            tokens => format!("max_tokens = {tokens}"),
        }
    }

    /// Asks in one presentation order until a reply can be parsed.
    async fn vote(
        &self,
        case: &JudgeCase,
        pictures: &[String],
        first_shown_first: bool,
    ) -> Result<Vote, ComponentError> {
        let text = self.comparison.text(case, first_shown_first).map_err(ComponentError::bad_input)?;
        let streams = Streams::new(case.seed);
        let mut last = String::new();
        for attempt in 0..self.attempts {
            // Keyed by text, not by position, so that a swapped case draws the same seeds.
            let seed = streams.seed(attempt as u32, "http", presented(case, first_shown_first)[0]);
            let temperature = self.temperatures[attempt.min(1)];
            let body = self.style.body(&text, pictures, temperature, seed);
            let reply = self.client.complete(body, seed).await?;
            if let Some(vote) = self.comparison.vote(reply.text.trim(), first_shown_first) {
                return Ok(vote);
            }
            if reply.cut && reply.text.trim().is_empty() {
                // Other draws would reason as long.
                return Err(ComponentError::bad_input(JudgeError::Cut { limit: self.limit() }));
            }
            last = reply.text;
        }
        Err(ComponentError::bad_input(unreadable(self.attempts, self.comparison.wanted(), &last)))
    }
}

#[async_trait]
impl Judge for HttpJudge {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let pictures = self.frames.map(|count| data_urls(&case.scene.frames, count)).transpose();
        let pictures = pictures.map_err(ComponentError::bad_input)?.unwrap_or_default();
        let orders = self.orders.first_shown_first().iter();
        // Both run to completion even if one fails, so that the other's reply is cached.
        let votes =
            join_all(orders.map(|&first_shown_first| self.vote(case, &pictures, first_shown_first)));
        Ok(Verdict::from_votes(votes.await.into_iter().collect::<Result<_, _>>()?))
    }
}
