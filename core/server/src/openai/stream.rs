//! Streaming of completions as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response as HttpResponse};
use futures::future::BoxFuture;
use futures::stream;
use isr_api::{ComponentError, Progress, Response};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::openai::error::ApiError;
use crate::openai::metrics::Metrics;
use crate::openai::queue::Place;
use crate::openai::reply::ReplyHead;

type Answers = BoxFuture<'static, Result<Vec<Response>, ComponentError>>;

/// A streamed reply. Dropping it, as on a disconnect, cancels the request to the policy.
pub(crate) struct Streaming {
    head: ReplyHead,
    metrics: Arc<Metrics>,
    include_usage: bool,
    /// `None` once generation has ended.
    answers: Option<Answers>,
    progress: UnboundedReceiver<Progress>,
    prompt_tokens: Option<usize>,
    /// Reasoning and text sent so far, by response.
    sent: Vec<[String; 2]>,
    ready: VecDeque<String>,
    /// Freed once the text is complete: a client that reads slowly keeps no place.
    place: Option<Place>,
}

impl Streaming {
    pub(crate) fn new(
        head: ReplyHead,
        metrics: Arc<Metrics>,
        place: Place,
        n: usize,
        include_usage: bool,
        answers: Answers,
        progress: UnboundedReceiver<Progress>,
    ) -> Self {
        let ready = (0..n).map(|index| head.opening(index).to_string()).collect();
        let (sent, prompt_tokens) = (vec![<[String; 2]>::default(); n], None);
        Self {
            head,
            metrics,
            include_usage,
            answers: Some(answers),
            progress,
            prompt_tokens,
            sent,
            ready,
            place: Some(place),
        }
    }

    /// Waits until the policy has accepted the prompt, so that a bad prompt gets an HTTP error status, then streams.
    pub(crate) async fn respond(mut self) -> Result<HttpResponse, ApiError> {
        if let Some(answers) = &mut self.answers {
            tokio::select! {
                biased;
                Some(progress) = self.progress.recv() => self.take(progress),
                outcome = answers => {
                    self.end();
                    self.finish(outcome?);
                }
            }
        }
        let events = stream::unfold(self, |mut this| async move {
            let data = this.next().await?;
            Some((Ok::<_, Infallible>(Event::default().data(data)), this))
        });
        Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
    }

    /// Data of the next event; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(data) = self.ready.pop_front() {
                return Some(data);
            }
            let answers = self.answers.as_mut()?;
            tokio::select! {
                biased;
                Some(progress) = self.progress.recv() => self.take(progress),
                outcome = answers => {
                    self.end();
                    match outcome {
                        Ok(responses) => self.finish(responses),
                        // The status was sent already: the error is the last event, without `[DONE]`.
                        Err(error) => self.push(&ApiError::from(error).body()),
                    }
                }
            }
        }
    }

    fn end(&mut self) {
        self.answers = None;
        self.place = None;
    }

    fn take(&mut self, progress: Progress) {
        match progress {
            Progress::Prompt { tokens } => self.prompt_tokens = Some(tokens),
            Progress::Reasoning { answer, text } => {
                if let Some([sent, _]) = self.sent.get_mut(answer) {
                    sent.push_str(&text);
                    self.push(&self.head.reasoning(answer, &text));
                }
            }
            Progress::Text { answer, text } => {
                if let Some([_, sent]) = self.sent.get_mut(answer) {
                    sent.push_str(&text);
                    self.push(&self.head.piece(answer, &text));
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, responses: Vec<Response>) {
        while let Ok(progress) = self.progress.try_recv() {
            self.take(progress);
        }
        self.metrics.wrote(self.prompt_tokens, &responses);
        for (index, response) in responses.iter().enumerate() {
            let [thought, said] = self.sent.get(index).cloned().unwrap_or_default();
            let reasoning = response.reasoning.as_ref().map_or("", |reasoning| reasoning.text.as_str());
            if let Some(rest) = rest(&thought, reasoning) {
                self.push(&self.head.reasoning(index, rest));
            }
            if let Some(rest) = rest(&said, &response.text) {
                self.push(&self.head.piece(index, rest));
            }
            self.push(&self.head.closing(index, response));
        }
        if self.include_usage {
            self.push(&self.head.counts(&responses, self.prompt_tokens));
        }
        self.ready.push_back("[DONE]".to_owned());
    }

    fn push(&mut self, value: &Value) {
        self.ready.push_back(value.to_string());
    }
}

/// Returns what of a text was not sent yet, if there is any.
fn rest<'t>(sent: &str, text: &'t str) -> Option<&'t str> {
    let rest = text.strip_prefix(sent);
    if rest.is_none() {
        tracing::error!(sent, text, "a policy took back what it had told");
    }
    rest.filter(|rest| !rest.is_empty())
}
