//! State of generation requests: queued, and being decoded.

use std::cell::RefCell;
use std::rc::Rc;

use isr_api::{GenerateRequest, ProgressSender, ReasoningFormat, Response, Sampling};

use super::detokenizer::Detokenizer;
use super::progress::ProgressEmitter;
use super::reply::{Reply, respond};
use super::sampler::{Draw, Sampler};
use crate::error::{Result, TorchError};
use crate::model::kv_cache::KvCache;

/// Generation request that waits for its prefill.
pub(super) struct QueuedRequest {
    pub(super) request: GenerateRequest,
    pub(super) progress: Option<ProgressSender>,
    pub(super) reply: Reply<Vec<Response>>,
}

/// State of a request whose answers are being decoded.
pub(super) struct RequestState {
    pub(super) sampling: Sampling,
    /// How its answers write reasoning.
    pub(super) reasoning: Option<ReasoningFormat>,
    /// Complete responses by index; `None` while an answer is being decoded.
    responses: Vec<Option<Response>>,
    /// `None` once the request has been answered.
    pub(super) reply: Option<Reply<Vec<Response>>>,
}

impl RequestState {
    /// Creates the state of a request for `n` answers.
    pub(super) fn new(
        sampling: Sampling,
        reasoning: Option<ReasoningFormat>,
        n: usize,
        reply: Reply<Vec<Response>>,
    ) -> Self {
        Self { sampling, reasoning, responses: vec![None; n], reply: Some(reply) }
    }

    /// Stores the response of one answer, and replies once all of them are complete.
    pub(super) fn complete(&mut self, index: usize, response: Response) {
        self.responses[index] = Some(response);
        if self.responses.iter().all(Option::is_some)
            && let Some(reply) = self.reply.take()
        {
            respond(reply, Ok(self.responses.drain(..).flatten().collect()));
        }
    }

    /// Answers the request with an error, unless it has been answered.
    pub(super) fn fail(&mut self, error: TorchError) {
        if let Some(reply) = self.reply.take() {
            respond(reply, Err(error));
        }
    }
}

/// Answers of one request that share a KV cache and a length; they attend in one call.
pub(super) struct DecodeGroup<Cache = KvCache> {
    pub(super) request: Rc<RefCell<RequestState>>,
    pub(super) cache: Cache,
    /// Difference between a token's position and its index in the cache.
    pub(super) delta: i64,
    /// Maximum number of tokens of an answer.
    pub(super) limit: usize,
    /// Answers that have not ended.
    pub(super) rows: Vec<DecodeRow>,
}

impl<Cache> DecodeGroup<Cache> {
    /// Replaces the cache.
    pub(super) fn with<Other>(self, cache: Other) -> DecodeGroup<Other> {
        let Self { request, cache: _, delta, limit, rows } = self;
        DecodeGroup { request, cache, delta, limit, rows }
    }

    /// Returns whether the caller still waits for the request.
    pub(super) fn is_wanted(&self) -> bool {
        self.request.borrow().reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    /// Samples a token of each answer from logits `[answers, vocabulary]`.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub(super) fn draw<'l>(&mut self, logits: impl Iterator<Item = &'l [f32]>) -> Result<()> {
        self.rows.iter_mut().zip(logits).try_for_each(|(row, logits)| row.draw(logits))
    }
}

/// One answer being decoded.
pub(super) struct DecodeRow {
    /// Index among the request's answers.
    pub(super) index: usize,
    /// Row of the group's cache.
    pub(super) cache_row: i64,
    pub(super) sampler: Sampler,
    pub(super) tokens: Vec<u32>,
    pub(super) logprobs: Vec<f32>,
    pub(super) emitter: Option<ProgressEmitter>,
    /// Text so far, where stop strings or a listener need it.
    pub(super) partial: Detokenizer,
}

impl DecodeRow {
    /// Creates answer `index` in a row of its group's cache.
    pub(super) fn new(
        index: usize,
        cache_row: usize,
        sampler: Sampler,
        progress: Option<&ProgressSender>,
    ) -> Self {
        let emitter = progress.map(|sender| ProgressEmitter::new(sender, index));
        let (tokens, logprobs) = (Vec::new(), Vec::new());
        let (cache_row, partial) = (cache_row as i64, Detokenizer::default());
        Self { index, cache_row, sampler, tokens, logprobs, emitter, partial }
    }

    /// Samples the next token from logits `[vocabulary]`.
    ///
    /// # Errors
    /// Logits that are not finite.
    pub(super) fn draw(&mut self, logits: &[f32]) -> Result<()> {
        let draw = self.sampler.draw(logits);
        self.push(draw)
    }

    /// Appends a sampled token.
    ///
    /// # Errors
    /// `None`, which stands for logits that are not finite.
    pub(super) fn push(&mut self, draw: Option<Draw>) -> Result<()> {
        let place = || TorchError::NotFinite(format!("token {} of the answer", self.tokens.len() + 1));
        let Draw { token, logprob } = draw.ok_or_else(place)?;
        self.tokens.push(token);
        self.logprobs.push(logprob);
        Ok(())
    }
}
