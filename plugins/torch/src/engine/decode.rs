//! Prefill and the decoding step.

use std::cell::RefCell;
use std::rc::Rc;

use isr_core::{FinishReason, GenerateRequest, ProgressSender, Response, Sampling};

use super::prefill::Prefilled;
use super::progress::{Teller, settled, tell_prompt};
use super::sampler::{Draw, Sampler};
use super::{Engine, Reply, respond};
use crate::error::{Result, TorchError};
use crate::model::decoder::{Attend, Step};
use crate::model::kv_cache::KvCache;
use crate::tensors::to_vec;

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

/// Answers of one request, which stand at the same token and attend together.
pub(crate) struct Group {
    request: Rc<RefCell<Answering>>,
    cache: KvCache,
    /// From a place in the cache to its position.
    delta: i64,
    limit: usize,
    /// Those that have not ended.
    rows: Vec<Row>,
}

/// One answer.
struct Row {
    /// Among the request's answers.
    index: usize,
    /// Its row of the group's cache.
    place: i64,
    sampler: Sampler,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    teller: Option<Teller>,
}

impl Group {
    fn is_wanted(&self) -> bool {
        self.request.borrow().reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }
}

impl Row {
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

    /// Admits what fits, then decodes one token of every answer in the batch.
    pub(super) fn advance(&mut self) {
        tch::no_grad(|| {
            while self.decoding() < self.batch
                && let Some(job) = self.waiting.pop_front()
            {
                self.admit(job);
            }
            self.groups.retain(Group::is_wanted);
            if self.groups.is_empty() {
                return;
            }
            if let Err(error) = self.step() {
                self.fail_batch(&error);
            }
        });
    }

    /// Answers that have begun and not ended.
    fn decoding(&self) -> usize {
        self.groups.iter().map(|group| group.rows.len()).sum()
    }

    fn admit(&mut self, job: Job) {
        if job.reply.is_closed() {
            return;
        }
        let Job { request, progress, reply } = job;
        match self.open(&request, progress.as_ref()) {
            Err(error) => respond(reply, Err(error)),
            Ok(opened) => {
                if let Err(error) = self.start(request, progress.as_ref(), reply, opened) {
                    tracing::error!(%error, "an answer was lost");
                }
            }
        }
    }

    /// Reads a request's prompt.
    fn open(&mut self, request: &GenerateRequest, progress: Option<&ProgressSender>) -> Result<Opened> {
        let rendered = self.render(&request.prompt)?;
        tell_prompt(progress, rendered.slots.len());
        let room = self.model.config.text.max_position_embeddings - rendered.extent(0);
        let limit = request.sampling.max_new_tokens.min(room);
        let Prefilled { cache, last } = self.prefill(&rendered, limit)?;
        let logits = to_vec(&self.model.decoder.logits(&last)?)?;
        Ok(Opened { cache, delta: rendered.positions.delta(), logits, limit })
    }

    fn start(
        &mut self,
        request: GenerateRequest,
        progress: Option<&ProgressSender>,
        reply: Reply<Vec<Response>>,
        opened: Opened,
    ) -> Result<()> {
        let Opened { cache, delta, logits, limit } = opened;
        let (n, seed, sampling) = (request.n, request.seed, request.sampling);
        let answering =
            Answering { sampling: sampling.clone(), responses: vec![None; n], reply: Some(reply) };
        let request = Rc::new(RefCell::new(answering));
        let indices: Vec<usize> = (0..n).collect();
        for indices in indices.chunks(self.batch) {
            let cache = cache.fork(indices.len() as i64)?;
            let mut group = Group { request: Rc::clone(&request), cache, delta, limit, rows: Vec::new() };
            for (place, &index) in indices.iter().enumerate() {
                let mut sampler = Sampler::new(sampling.clone(), seed, index);
                let draw = sampler.draw(&logits);
                let (tokens, logprobs) = (Vec::new(), Vec::new());
                let teller = progress.map(|sender| Teller::new(sender, index));
                let mut row = Row { index, place: place as i64, sampler, tokens, logprobs, teller };
                row.push(draw);
                group.rows.push(row);
            }
            self.keep_unended(group)?;
        }
        Ok(())
    }

    /// Decodes one token of the first groups, `self.batch` answers at most.
    fn step(&mut self) -> Result<()> {
        let mut rows = 0;
        let fits = |group: &&Group| {
            rows += group.rows.len();
            rows <= self.batch
        };
        let active = self.groups.iter().take_while(fits).count();
        let mut batch: Vec<Group> = self.groups.drain(..active).collect();
        // They go back in front: an answer that was begun is ended first.
        let waiting = std::mem::take(&mut self.groups);
        let outcome = self.forward(&mut batch).map(|logits| self.draw(&mut batch, &logits));
        for group in batch {
            match &outcome {
                Ok(()) => self.keep_unended(group)?,
                Err(_) => self.groups.push_back(group),
            }
        }
        self.groups.extend(waiting);
        outcome
    }

    /// Logits `[batch, vocabulary]`, flat, behind the last token of each row.
    fn forward(&self, batch: &mut [Group]) -> Result<Vec<f32>> {
        let (mut ids, mut positions) = (Vec::with_capacity(self.batch), Vec::with_capacity(self.batch));
        let mut steps = Vec::with_capacity(batch.len());
        for Group { cache, delta, rows, .. } in batch.iter_mut() {
            ids.extend(rows.iter().map(|row| row.tokens.last().map_or(0, |&id| i64::from(id))));
            positions.extend(rows.iter().map(|_| cache.len() + *delta));
            let places: Vec<i64> = rows.iter().map(|row| row.place).collect();
            steps.push(Step::new(cache, &places)?);
        }
        ids.resize(self.batch, 0);
        positions.resize(self.batch, 0);
        let inputs = self.model.read_step(&ids, &positions)?;
        let hidden = self.model.decoder.forward(&inputs, Attend::Step(&mut steps))?;
        for group in batch {
            group.cache.advance(1);
        }
        to_vec(&self.model.decoder.logits(&hidden)?)
    }

    /// Draws a token of each row from its logits.
    fn draw(&self, batch: &mut [Group], logits: &[f32]) {
        let rows = batch.iter_mut().flat_map(|group| &mut group.rows);
        for (row, logits) in rows.zip(logits.chunks(self.model.config.text.vocab_size as usize)) {
            let draw = row.sampler.draw(logits);
            row.push(draw);
        }
    }

    /// Hands in the responses that have ended, and keeps a group that has others.
    fn keep_unended(&mut self, mut group: Group) -> Result<()> {
        let mut unended = Vec::with_capacity(group.rows.len());
        for mut row in std::mem::take(&mut group.rows) {
            match self.ending(&group, &row)? {
                None => {
                    self.tell(&group, &mut row)?;
                    unended.push(row);
                }
                Some((text, finish_reason)) => {
                    if let Some(teller) = &mut row.teller {
                        teller.tell(&text);
                    }
                    let policy = self.fingerprint()?;
                    let Row { index, tokens: token_ids, logprobs, .. } = row;
                    let response = Response { text, token_ids, logprobs, finish_reason, policy };
                    hand_in(&mut group.request.borrow_mut(), index, response);
                }
            }
        }
        if !unended.is_empty() {
            group.rows = unended;
            self.groups.push_back(group);
        }
        Ok(())
    }

    /// The text of an answer that has ended, and why it did.
    fn ending(&self, group: &Group, row: &Row) -> Result<Option<(String, FinishReason)>> {
        if row.tokens.last().is_some_and(|token| self.chat.stops().contains(token)) {
            return Ok(Some((self.chat.decode(&row.tokens)?, FinishReason::Stop)));
        }
        if let Some(text) = self.stop_string(group, row)? {
            return Ok(Some((text, FinishReason::Stop)));
        }
        match row.tokens.len() >= group.limit {
            true => Ok(Some((self.chat.decode(&row.tokens)?, FinishReason::Length))),
            false => Ok(None),
        }
    }

    /// Tells whoever listens what is settled of an answer under way.
    fn tell(&self, group: &Group, row: &mut Row) -> Result<()> {
        let Some(teller) = row.teller.as_mut().filter(|teller| teller.has_listener()) else {
            return Ok(());
        };
        let text = self.chat.decode(&row.tokens)?;
        teller.tell(settled(&text, &group.request.borrow().sampling.stop));
        Ok(())
    }

    /// The text before the first stop string, where one has been written.
    fn stop_string(&self, group: &Group, row: &Row) -> Result<Option<String>> {
        let request = group.request.borrow();
        if request.sampling.stop.is_empty() {
            return Ok(None);
        }
        let text = self.chat.decode(&row.tokens)?;
        let found = request.sampling.stop.iter().filter_map(|stop| text.find(stop.as_str())).min();
        Ok(found.map(|end| text[..end].trim_end().to_owned()))
    }

    /// An operation failed: every request that is being answered is told so.
    fn fail_batch(&mut self, error: &TorchError) {
        for group in self.groups.drain(..) {
            if let Some(reply) = group.request.borrow_mut().reply.take() {
                respond(reply, Err(TorchError::Engine(error.to_string())));
            }
        }
    }
}

/// Keeps a response, and answers the request with all of them once it has them.
fn hand_in(request: &mut Answering, index: usize, response: Response) {
    request.responses[index] = Some(response);
    if request.responses.iter().all(Option::is_some)
        && let Some(reply) = request.reply.take()
    {
        respond(reply, Ok(request.responses.drain(..).flatten().collect()));
    }
}
