//! Prefill and the decoding step.

use std::cell::RefCell;
use std::rc::Rc;

use isr_core::{FinishReason, GenerateRequest, ProgressSender, Response, Sampling};
use tch::{Device, Kind, Tensor};

use super::prefill::Prefilled;
use super::progress::{Teller, settled, tell_prompt};
use super::sampler::{Draw, Sampler};
use super::{Engine, Reply, respond};
use crate::error::{Result, TorchError};
use crate::model::decoder::Attend;
use crate::model::kv_cache::KvCache;

/// A request that waits for its prefill.
pub(crate) struct Job {
    request: GenerateRequest,
    progress: Option<ProgressSender>,
    reply: Reply<Vec<Response>>,
}

/// A prompt that answers begin behind.
struct Opened {
    cache: KvCache,
    /// From a place in the cache to its position.
    delta: i64,
    /// Behind the prompt.
    logits: Vec<f32>,
    /// How many tokens an answer may have.
    limit: usize,
}

/// A request whose answers are being decoded.
struct Answering {
    sampling: Sampling,
    responses: Vec<Option<Response>>,
    reply: Option<Reply<Vec<Response>>>,
}

/// One answer in the batch.
pub(crate) struct Row {
    request: Rc<RefCell<Answering>>,
    index: usize,
    cache: KvCache,
    /// From a place in the cache to its position.
    delta: i64,
    sampler: Sampler,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    limit: usize,
    teller: Option<Teller>,
}

impl Row {
    fn is_wanted(&self) -> bool {
        self.request.borrow().reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    fn push(&mut self, draw: Draw) {
        self.tokens.push(draw.token);
        self.logprobs.push(draw.logprob);
    }
}

impl Engine {
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
            _ => self.waiting.push_back(Job { request, progress, reply }),
        }
    }

    /// Admits what fits, then decodes one token of every row in the batch.
    pub(super) fn advance(&mut self) {
        tch::no_grad(|| {
            while self.rows.len() < self.batch
                && let Some(job) = self.waiting.pop_front()
            {
                self.admit(job);
            }
            self.rows.retain(Row::is_wanted);
            if self.rows.is_empty() {
                return;
            }
            if let Err(error) = self.step() {
                self.fail_batch(&error);
            }
        });
    }

    fn admit(&mut self, job: Job) {
        if job.reply.is_closed() {
            return;
        }
        let Job { request, progress, reply } = job;
        match self.open_rows(&request, progress.as_ref()) {
            Err(error) => respond(reply, Err(error)),
            Ok(opened) => {
                if let Err(error) = self.start_rows(request, progress.as_ref(), reply, opened) {
                    tracing::error!(%error, "an answer was lost");
                }
            }
        }
    }

    /// Reads a request's prompt.
    fn open_rows(
        &mut self,
        request: &GenerateRequest,
        progress: Option<&ProgressSender>,
    ) -> Result<Opened> {
        let rendered = self.render(&request.prompt)?;
        tell_prompt(progress, rendered.slots.len());
        let room = self.model.config.text.max_position_embeddings - rendered.extent(0);
        let limit = request.sampling.max_new_tokens.min(room);
        let Prefilled { cache, last } = self.prefill(&rendered, limit)?;
        let logits = to_vec(&self.model.decoder.logits(&last)?)?;
        Ok(Opened { cache, delta: rendered.positions.delta(), logits, limit })
    }

    fn start_rows(
        &mut self,
        request: GenerateRequest,
        progress: Option<&ProgressSender>,
        reply: Reply<Vec<Response>>,
        opened: Opened,
    ) -> Result<()> {
        let Opened { cache, delta, logits, limit } = opened;
        // The last row takes the prompt's cache itself.
        let mut caches = (1..request.n).map(|_| cache.fork()).collect::<Result<Vec<_>>>()?;
        caches.push(cache);
        let answering = Answering {
            sampling: request.sampling.clone(),
            responses: vec![None; request.n],
            reply: Some(reply),
        };
        let shared = Rc::new(RefCell::new(answering));
        for (index, cache) in caches.into_iter().enumerate() {
            let mut sampler = Sampler::new(request.sampling.clone(), request.seed, index);
            let draw = sampler.draw(&logits);
            let mut row = Row {
                request: Rc::clone(&shared),
                index,
                cache,
                delta,
                sampler,
                tokens: Vec::new(),
                logprobs: Vec::new(),
                limit,
                teller: progress.map(|sender| Teller::new(sender, index)),
            };
            row.push(draw);
            if let Some(row) = self.finish_or_keep(row)? {
                self.rows.push_back(row);
            }
        }
        Ok(())
    }

    /// Decodes one token of the first rows, `self.batch` at most.
    fn step(&mut self) -> Result<()> {
        let active = self.rows.len().min(self.batch);
        let mut batch: Vec<Row> = self.rows.drain(..active).collect();
        let logits = match self.forward(&mut batch) {
            Ok(logits) => logits,
            Err(error) => {
                self.rows.extend(batch);
                return Err(error);
            }
        };
        let vocabulary = self.model.config.text.vocab_size as usize;
        let mut kept = Vec::with_capacity(active);
        for (mut row, logits) in batch.into_iter().zip(logits.chunks(vocabulary)) {
            let draw = row.sampler.draw(logits);
            row.push(draw);
            kept.extend(self.finish_or_keep(row)?);
        }
        // Rows that were in the batch stay in front: an answer that was begun is ended first.
        kept.into_iter().rev().for_each(|row| self.rows.push_front(row));
        Ok(())
    }

    /// Logits `[batch, vocabulary]`, flat, behind the last token of each row.
    fn forward(&self, batch: &mut [Row]) -> Result<Vec<f32>> {
        let mut ids: Vec<i64> =
            batch.iter().map(|row| row.tokens.last().map_or(0, |&id| i64::from(id))).collect();
        let mut positions: Vec<i64> = batch.iter().map(|row| row.cache.len() + row.delta).collect();
        ids.resize(self.batch, 0);
        positions.resize(self.batch, 0);
        let inputs = self.model.read_step(&ids, &positions)?;
        let mut caches: Vec<&mut KvCache> = batch.iter_mut().map(|row| &mut row.cache).collect();
        let hidden = self.model.decoder.forward(&inputs, Attend::Step(&mut caches))?;
        for row in batch {
            row.cache.advance(1);
        }
        to_vec(&self.model.decoder.logits(&hidden)?)
    }

    /// Keeps a row that goes on; hands in the response of one that has ended.
    fn finish_or_keep(&mut self, mut row: Row) -> Result<Option<Row>> {
        let ended = row.tokens.last().is_some_and(|token| self.chat.stops().contains(token));
        let cut = match ended {
            true => None,
            false => self.stop_string(&row)?,
        };
        let reason = match (ended || cut.is_some(), row.tokens.len() >= row.limit) {
            (true, _) => FinishReason::Stop,
            (false, true) => FinishReason::Length,
            (false, false) => {
                self.tell(&mut row)?;
                return Ok(Some(row));
            }
        };
        let text = match cut {
            Some(text) => text,
            None => self.chat.decode(&row.tokens)?,
        };
        if let Some(teller) = &mut row.teller {
            teller.tell(&text);
        }
        let policy = self.fingerprint()?;
        let Row { request, index, tokens: token_ids, logprobs, .. } = row;
        let mut request = request.borrow_mut();
        let response = Response { text, token_ids, logprobs, finish_reason: reason, policy };
        request.responses[index] = Some(response);
        if request.responses.iter().all(Option::is_some)
            && let Some(reply) = request.reply.take()
        {
            respond(reply, Ok(request.responses.drain(..).flatten().collect()));
        }
        Ok(None)
    }

    /// Tells whoever listens what is settled of an answer under way.
    fn tell(&self, row: &mut Row) -> Result<()> {
        let Some(teller) = row.teller.as_mut().filter(|teller| teller.has_listener()) else {
            return Ok(());
        };
        let text = self.chat.decode(&row.tokens)?;
        teller.tell(settled(&text, &row.request.borrow().sampling.stop));
        Ok(())
    }

    /// The text before the first stop string, where one has been written.
    fn stop_string(&self, row: &Row) -> Result<Option<String>> {
        let request = row.request.borrow();
        if request.sampling.stop.is_empty() {
            return Ok(None);
        }
        let text = self.chat.decode(&row.tokens)?;
        let found = request.sampling.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        Ok(found.map(|end| text[..end].trim_end().to_owned()))
    }

    /// An operation failed: every request with a row in the batch is told so.
    fn fail_batch(&mut self, error: &TorchError) {
        for row in self.rows.drain(..) {
            if let Some(reply) = row.request.borrow_mut().reply.take() {
                respond(reply, Err(TorchError::Engine(error.to_string())));
            }
        }
    }
}

/// All elements in float32, on the CPU.
pub(crate) fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    let flat = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([-1])?;
    Ok(Vec::try_from(&flat)?)
}
