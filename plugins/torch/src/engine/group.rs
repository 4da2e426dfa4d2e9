//! State of generation requests: queued, and being decoded.

use std::cell::RefCell;
use std::rc::Rc;

use isr_api::{GenerateRequest, ProgressSender, Response, Sampling};

use super::progress::ProgressEmitter;
use super::reply::{Reply, respond};
use super::sampler::{Draw, Sampler};
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
    /// Complete responses by index; `None` while an answer is being decoded.
    responses: Vec<Option<Response>>,
    /// `None` once the request has been answered.
    pub(super) reply: Option<Reply<Vec<Response>>>,
}

impl RequestState {
    /// Creates the state of a request for `n` answers.
    pub(super) fn new(sampling: Sampling, n: usize, reply: Reply<Vec<Response>>) -> Self {
        Self { sampling, responses: vec![None; n], reply: Some(reply) }
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
}

impl DecodeRow {
    /// Appends a sampled token.
    pub(super) fn push(&mut self, draw: Draw) {
        self.tokens.push(draw.token);
        self.logprobs.push(draw.logprob);
    }
}
