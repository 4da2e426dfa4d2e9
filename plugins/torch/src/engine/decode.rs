//! Continuous batching: admission of queued requests and the decoding step.

use std::cell::RefCell;
use std::rc::Rc;

use isr_api::{FinishReason, GenerateRequest, ProgressSender, ReasoningFormat, Response};

use super::Engine;
use super::group::{DecodeGroup, DecodeRow, QueuedRequest, RequestState};
use super::memory::{DECODING, READING};
use super::prefill::PrefillOutput;
use super::progress::{emit_prompt, stable_prefix};
use super::reply::{Reply, respond};
use super::sampler::Sampler;
use crate::error::{Result, TorchError};
use crate::model::decoder::{ActiveRows, AttentionMode};
use crate::model::kv_cache::KvCache;
use crate::tensors::to_vec;

/// Tokens of an answer that a prefill makes room for; the cache grows with longer ones.
const FIRST_TOKENS: usize = 64;

/// Prompt after its prefill.
struct PrefilledPrompt {
    cache: KvCache,
    /// Difference between a token's position and its index in the cache.
    delta: i64,
    /// Next-token logits behind the prompt, `[vocabulary]`.
    logits: Vec<f32>,
    /// Maximum number of tokens of an answer.
    limit: usize,
    /// How its answers write reasoning.
    reasoning: Option<ReasoningFormat>,
}

impl Engine {
    /// Queues a generation request; sampling that is not valid is refused at once.
    pub(super) fn enqueue(
        &mut self,
        request: GenerateRequest,
        progress: Option<ProgressSender>,
        reply: Reply<Vec<Response>>,
    ) {
        if let Err(reason) = request.sampling.validate() {
            return respond(reply, Err(TorchError::Prompt(format!("sampling: {reason}"))));
        }
        match request.n {
            0 => respond(reply, Ok(Vec::new())),
            _ => self.waiting.push_back(QueuedRequest { request, progress, reply }),
        }
    }

    /// Admits queued requests while rows are free, then decodes one token of every answer in the batch.
    pub(super) fn advance(&mut self) {
        tch::no_grad(|| {
            while self.decoding() < self.batch
                && let Some(queued) = self.waiting.pop_front()
            {
                self.admit(queued);
            }
            self.groups.retain(DecodeGroup::is_wanted);
            match (self.fused.is_empty(), self.groups.is_empty()) {
                (false, _) => self.fused_window(),
                (true, false) => self.step(),
                (true, true) => {}
            }
        });
    }

    /// Returns the number of answers being decoded.
    fn decoding(&self) -> usize {
        self.groups.iter().map(|group| group.rows.len()).sum::<usize>() + self.fused.rows()
    }

    /// Prefills a request and starts its answers.
    fn admit(&mut self, queued: QueuedRequest) {
        if queued.reply.is_closed() {
            return;
        }
        let QueuedRequest { request, progress, reply } = queued;
        let read = |engine: &mut Self| engine.prefill_request(&request, progress.as_ref());
        match self.within_memory(READING, read) {
            Err(error) => respond(reply, Err(error)),
            Ok(prompt) => self.start(request, progress.as_ref(), reply, prompt),
        }
    }

    /// Renders and prefills the prompt of a request.
    fn prefill_request(
        &mut self,
        request: &GenerateRequest,
        progress: Option<&ProgressSender>,
    ) -> Result<PrefilledPrompt> {
        let rendered = self.render(&request.prompt)?;
        emit_prompt(progress, rendered.slots.len());
        let room = self.model.config.text.max_position_embeddings - rendered.extent(0);
        let limit = request.sampling.max_new_tokens.min(room);
        let PrefillOutput { cache, last } = self.prefill(&rendered, limit.min(FIRST_TOKENS))?;
        let logits = to_vec(&self.model.decoder.logits(&last)?)?;
        let reasoning = self.chat.reasoning_behind(&rendered);
        Ok(PrefilledPrompt { cache, delta: rendered.positions.delta(), logits, limit, reasoning })
    }

    /// Samples the first token of every answer and adds them to the batch.
    fn start(
        &mut self,
        request: GenerateRequest,
        progress: Option<&ProgressSender>,
        reply: Reply<Vec<Response>>,
        prompt: PrefilledPrompt,
    ) {
        let GenerateRequest { n, seed, sampling, .. } = request;
        let state =
            Rc::new(RefCell::new(RequestState::new(sampling.clone(), prompt.reasoning.clone(), n, reply)));
        let indices: Vec<usize> = (0..n).collect();
        for indices in indices.chunks(self.batch) {
            // The fused batch copies what it takes in.
            let count = if self.model.fused.is_some() { 1 } else { indices.len() as i64 };
            let cache = match prompt.cache.fork(count) {
                Ok(cache) => cache,
                Err(error) => return state.borrow_mut().fail(self.advised(error, DECODING)),
            };
            let row = |(cache_row, &index): (usize, &usize)| {
                DecodeRow::new(index, cache_row, Sampler::new(sampling.clone(), seed, index), progress)
            };
            let rows = indices.iter().enumerate().map(row).collect();
            let PrefilledPrompt { delta, limit, .. } = prompt;
            let group = DecodeGroup { request: Rc::clone(&state), cache, delta, limit, rows };
            self.draw(group, std::iter::repeat(prompt.logits.as_slice()));
        }
    }

    /// Decodes one token of each answer of the first groups, `self.batch` answers at most.
    fn step(&mut self) {
        let mut rows = 0;
        let fits = |group: &&DecodeGroup| {
            rows += group.rows.len();
            rows <= self.batch
        };
        let active = self.groups.iter().take_while(fits).count();
        let mut batch: Vec<DecodeGroup> = self.groups.drain(..active).collect();
        // Active groups return to the front: answers under way finish first.
        let waiting = std::mem::take(&mut self.groups);
        match self.forward(&mut batch) {
            Ok(logits) => self.draw_all(batch, &logits),
            Err(error) => self.step_apart(batch, error),
        }
        self.groups.extend(waiting);
    }

    /// Decodes one token of each group by itself after a step together has failed, so that a request that exceeds the
    /// device's memory fails alone. A failed step has changed no cache.
    fn step_apart(&mut self, batch: Vec<DecodeGroup>, error: TorchError) {
        if let [group] = batch.as_slice() {
            return group.request.borrow_mut().fail(self.advised(error, DECODING));
        }
        self.gives_up_cache(&error);
        tracing::warn!(%error, requests = batch.len(), "a decoding step failed; each request goes on alone");
        for group in batch {
            let mut alone = vec![group];
            match self.forward(&mut alone) {
                Ok(logits) => self.draw_all(alone, &logits),
                Err(error) => self.step_apart(alone, error),
            }
        }
    }

    /// Samples a token of each answer from logits `[batch, vocabulary]`, row-major.
    fn draw_all(&mut self, batch: Vec<DecodeGroup>, logits: &[f32]) {
        let mut rows = logits.chunks(self.model.config.text.vocab_size as usize);
        for group in batch {
            let count = group.rows.len();
            self.draw(group, rows.by_ref().take(count));
        }
    }

    /// Samples a token of each answer of a group, and requeues the group if it has answers that go on. An error is that
    /// of the group's request alone.
    fn draw<'l>(&mut self, mut group: DecodeGroup, logits: impl Iterator<Item = &'l [f32]>) {
        let request = Rc::clone(&group.request);
        if let Err(error) = group.draw(logits).and_then(|()| self.retain_active(group)) {
            request.borrow_mut().fail(self.advised(error, DECODING));
        }
    }

    /// Runs the decoder on the last token of each row; returns logits `[batch, vocabulary]`, row-major.
    fn forward(&self, batch: &mut [DecodeGroup]) -> Result<Vec<f32>> {
        let (mut ids, mut positions) = (Vec::with_capacity(self.batch), Vec::with_capacity(self.batch));
        let mut steps = Vec::with_capacity(batch.len());
        for DecodeGroup { cache, delta, rows, .. } in batch.iter_mut() {
            ids.extend(rows.iter().map(|row| row.tokens.last().map_or(0, |&id| i64::from(id))));
            positions.extend(rows.iter().map(|_| cache.len() + *delta));
            let cache_rows: Vec<i64> = rows.iter().map(|row| row.cache_row).collect();
            steps.push(ActiveRows::new(cache, &cache_rows)?);
        }
        ids.resize(self.batch, 0);
        positions.resize(self.batch, 0);
        let inputs = self.model.embed_step(&ids, &positions)?;
        let hidden = self.model.decoder.forward(&inputs, AttentionMode::Step(&mut steps))?;
        for group in batch {
            group.cache.advance(1);
        }
        to_vec(&self.model.decoder.logits(&hidden)?)
    }

    /// Completes the answers that have ended, and requeues the group if it has others.
    fn retain_active(&mut self, mut group: DecodeGroup) -> Result<()> {
        self.complete_ended(&mut group)?;
        if group.rows.is_empty() {
            return Ok(());
        }
        if self.model.fused.is_none() {
            self.groups.push_back(group);
            return Ok(());
        }
        self.within_memory(DECODING, |engine| match &engine.model.fused {
            Some(step) => engine.fused.make_room(step, &group),
            None => Ok(()),
        })?;
        self.fused.push(group)
    }

    /// Completes the answers that have ended, and removes them from their group.
    pub(super) fn complete_ended<Cache>(&mut self, group: &mut DecodeGroup<Cache>) -> Result<()> {
        let mut active = Vec::with_capacity(group.rows.len());
        for mut row in std::mem::take(&mut group.rows) {
            match self.ending(group, &mut row)? {
                None => active.push(row),
                Some((text, finish_reason)) => {
                    let policy = self.fingerprint()?;
                    let DecodeRow { index, tokens: token_ids, logprobs, mut emitter, .. } = row;
                    let reasoning = None;
                    let response = Response { text, token_ids, logprobs, finish_reason, policy, reasoning };
                    let response = self.separated(group.request.borrow().reasoning.as_ref(), response)?;
                    if let Some(emitter) = &mut emitter {
                        emitter.finish(&response);
                    }
                    group.request.borrow_mut().complete(index, response);
                }
            }
        }
        group.rows = active;
        Ok(())
    }

    /// Separates the reasoning of a response, whose text is whole.
    fn separated(&self, format: Option<&ReasoningFormat>, response: Response) -> Result<Response> {
        let Some(format) = format else { return Ok(response) };
        let tokens = response.token_ids.clone();
        format.separate(response, |count| self.chat.decode_part(&tokens[..count]))
    }

    /// Returns text and finish reason of an answer that has ended; `None` while it goes on.
    fn ending<Cache>(
        &self,
        group: &DecodeGroup<Cache>,
        row: &mut DecodeRow,
    ) -> Result<Option<(String, FinishReason)>> {
        if row.tokens.last().is_some_and(|token| self.chat.stops().contains(token)) {
            return Ok(Some((self.chat.decode(&row.tokens)?, FinishReason::Stop)));
        }
        if let Some(text) = self.read(&group.request.borrow(), row)? {
            return Ok(Some((text, FinishReason::Stop)));
        }
        match row.tokens.len() >= group.limit {
            true => Ok(Some((self.chat.decode(&row.tokens)?, FinishReason::Length))),
            false => Ok(None),
        }
    }

    /// Reads the newest token where stop strings or a listener need the text. Returns the text before the first stop
    /// string, if one has been generated; else emits what is certain of it.
    fn read(&self, request: &RequestState, row: &mut DecodeRow) -> Result<Option<String>> {
        let stops = request.sampling.stop.as_slice();
        let emitter = row.emitter.as_mut().filter(|emitter| emitter.has_listener());
        if stops.is_empty() && emitter.is_none() {
            return Ok(None);
        }
        row.partial.update(&row.tokens, |part| self.chat.decode_part(part))?;
        if row.partial.reached(stops) {
            let text = self.chat.decode(&row.tokens)?;
            if let Some(end) = stops.iter().filter_map(|stop| text.find(stop.as_str())).min() {
                return Ok(Some(text[..end].trim_end().to_owned()));
            }
        }
        if let Some(emitter) = emitter {
            emitter.emit(stable_prefix(row.partial.text(), stops), request.reasoning.as_ref());
        }
        Ok(None)
    }
}
