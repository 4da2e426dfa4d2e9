//! The training stage: pi_{t+1} from pi_t and the preference pairs, with pi_t as the reference policy.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use isr_api::records::{
    CorruptedRecord, MismatchedRecord, PairRecord, PairSummary, RecomputedRecord, ReferenceRecord,
    TrainRecord, TrainSummary,
};
use isr_api::{ComponentError, Continuation, Error, PromptedTarget, Response, Stage, Target, TrainExample};
use rand::seq::SliceRandom;

use super::IterativeLoop;
use super::mix::Mixed;
use super::pair_prompt::prompt_of;
use super::reference::{BySample, answer};
use super::select::PAIRS;
use super::shared::copy_training;
use super::stage::in_iteration;
use crate::stage_cache::{EntryMeta, METRICS};
use crate::store::{StageMark, StageMarks};
use crate::training::{Batches, Training};

/// Statistics of selection and training for the summary.
pub(super) struct Trained {
    pub(super) pairs: PairSummary,
    pub(super) training: TrainSummary,
}

impl IterativeLoop {
    /// Trains on the pairs and writes the checkpoint, or reuses an existing one.
    pub(super) async fn train(&self, t: u32, mixed: Mixed) -> Result<Trained, Error> {
        let Mixed { responses, selected, .. } = &mixed;
        let settings = &self.parts.train;
        let by_sample: BySample<'_> =
            responses.iter().map(|record| (record.sample.as_str(), record)).collect();
        let key = self.cache_key(Stage::Reference, t, &(&selected.pairs, responses));
        let references = self.score_references(t, &by_sample, &selected.pairs, key).await?;
        let is_whole =
            |pair: &&PairRecord| references.as_ref().is_none_or(|all| all.contains_key(pair.id.as_str()));
        let pairs: Vec<&PairRecord> = selected.pairs.iter().filter(is_whole).collect();
        if pairs.is_empty() {
            let candidates = selected.pairs.len();
            let reasons = "all were quarantined".to_owned();
            return Err(Error::NoPairs { iteration: t, candidates, reasons });
        }
        let references = references.unwrap_or_default();
        let scored: Vec<_> = pairs.iter().map(|pair| references.get(pair.id.as_str())).collect();
        let inputs = (&pairs, responses, scored);
        // Sums over processes are taken in another order.
        let key = match self.training_processes() {
            1 => self.cache_key(Stage::Train, t, &inputs),
            processes => self.cache_key(Stage::Train, t, &(inputs, processes)),
        };
        let batches = PairBatches {
            of: self,
            t,
            pairs: &pairs,
            responses: by_sample,
            references,
            order: Mutex::default(),
        };
        let steps = settings.epochs * batches.per_epoch();
        let training = Training {
            dir: &self.parts.store.iteration(t)?,
            iteration: t,
            streams: self.streams,
            stage: &in_iteration(t, Stage::Train.name()),
            steps,
            snapshot_every: settings.snapshot_every,
            max_grad_norm: settings.max_grad_norm,
            learning_rate: &|step| settings.learning_rate_at(step, steps),
            policy: self.parts.components.policy.as_ref(),
            objective: &self.parts.components.objective,
            observers: &self.observers,
            cancel: &self.parts.cancel,
            stop: &self.stop,
            processes: &self.processes,
        };
        let key = key.filter(|_| self.processes.leads() && !Training::checkpoint(training.dir).exists());
        let (lookup, started) = (self.lookup(key.as_ref()).await?, Instant::now());
        self.reuse_training(t, &lookup).await?;
        let records = training.run(&batches).await?;
        if self.processes.leads() {
            self.mark_training(t)?;
        }
        let (stage, seconds) = (Stage::Train.name().to_owned(), started.elapsed().as_secs_f64());
        lookup.publish(&EntryMeta { stage, iteration: t, seconds, digest: None }, |into| {
            copy_training(training.dir, into)
        });
        let mut training = summary(&records, settings.epochs);
        training.metrics.extend(batches.recomputed_drift().into_iter().flatten());
        warn_of_drift(&training.metrics);
        Ok(Trained { pairs: selected.summary.clone(), training })
    }

    /// Number of processes that take each step together.
    fn training_processes(&self) -> usize {
        if self.parts.components.policy.trains_in_parallel() { self.processes.count() } else { 1 }
    }

    /// Records what the finished training read and wrote: pairs, steps and the fingerprint of the policy.
    fn mark_training(&self, t: u32) -> Result<(), Error> {
        let dir = self.parts.store.iteration(t)?;
        let pairs = StageMark::of_file(&dir, PAIRS)?;
        let policy = Some(self.fingerprint()?);
        let train = StageMark { policy, ..StageMark::of_file(&dir, METRICS)? };
        StageMarks::add(&dir, [("select", pairs), (Stage::Train.name(), train)])
    }
}

/// Batches of preference pairs, reshuffled in each epoch.
struct PairBatches<'a> {
    of: &'a IterativeLoop,
    t: u32,
    pairs: &'a [&'a PairRecord],
    responses: BySample<'a>,
    references: HashMap<String, ReferenceRecord>,
    /// The pairs in the order of one epoch, the last that was asked for.
    order: Mutex<Option<(u64, Vec<usize>)>>,
}

impl PairBatches<'_> {
    fn size(&self) -> usize {
        self.of.parts.train.batch_size.max(1)
    }

    fn per_epoch(&self) -> u64 {
        self.pairs.len().div_ceil(self.size()) as u64
    }

    /// Pairs of a step: of a policy that trains in parallel those that fall to this process.
    fn pairs_of(&self, step: u64) -> Vec<&PairRecord> {
        let (epoch, within) = (step / self.per_epoch(), step % self.per_epoch());
        let mut kept = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let order = match kept.take() {
            Some((of, order)) if of == epoch => order,
            _ => {
                let mut order: Vec<usize> = (0..self.pairs.len()).collect();
                order.shuffle(&mut self.of.streams.rng(self.t, "shuffle", &epoch.to_string()));
                order
            }
        };
        let here = order.iter().skip(within as usize * self.size()).take(self.size());
        let mut pairs: Vec<&PairRecord> = here.map(|&index| self.pairs[index]).collect();
        *kept = Some((epoch, order));
        if self.of.parts.components.policy.trains_in_parallel() {
            pairs = pairs.drain(self.of.processes.share(pairs.len())).collect();
        }
        pairs
    }

    /// Builds the training example of a pair; decodes the video again if it was evicted from memory.
    async fn example(&self, pair: &PairRecord) -> Result<TrainExample, ComponentError> {
        let id = pair.id.as_str();
        let (chosen, rejected) =
            (self.response(id, pair.chosen_index)?, self.response(id, pair.rejected_index)?);
        let look = self.of.look(self.t);
        let prompt = prompt_of(&self.of.videos, look, pair, None).await?;
        let mut example = TrainExample::new(prompt, target(chosen), Some(target(rejected)));
        let Some(ReferenceRecord { corrupted, mismatched, recomputed, .. }) = self.references.get(id)
        else {
            return Ok(example);
        };
        if let Some(by) = recomputed {
            example.chosen = scored(chosen, &by.chosen);
            example.rejected = Some(scored(rejected, &by.rejected));
        }
        if let Some(CorruptedRecord { seed, logprobs }) = corrupted {
            let prompt = prompt_of(&self.of.videos, look, pair, Some(*seed)).await?;
            example.corrupted = Some(PromptedTarget { prompt, target: scored(chosen, logprobs) });
        }
        if let Some(MismatchedRecord { sample, index, logprobs }) = mismatched {
            example.mismatched = Some(scored(self.response(sample.as_str(), *index)?, logprobs));
        }
        Ok(example)
    }

    /// Returns the drift between recorded and recomputed log-probs of all pairs, by the names of a step's metrics; `None`
    /// if none were recomputed.
    fn recomputed_drift(&self) -> Option<BTreeMap<String, f64>> {
        let (mut by_token, mut by_answer, mut largest) = (Vec::new(), Vec::new(), 0.0_f64);
        for pair in self.pairs {
            let id = pair.id.as_str();
            let Some(RecomputedRecord { chosen, rejected }) =
                self.references.get(id).and_then(|record| record.recomputed.as_ref())
            else {
                continue;
            };
            for (index, scored) in [(pair.chosen_index, chosen), (pair.rejected_index, rejected)] {
                let Ok(response) = self.response(id, index) else { continue };
                let both = response.logprobs.iter().zip(scored);
                let differences: Vec<f64> = both.map(|(a, b)| f64::from(*b) - f64::from(*a)).collect();
                by_answer.push(differences.iter().sum::<f64>().abs());
                largest = differences.iter().map(|it| it.abs()).fold(largest, f64::max);
                by_token.extend(differences.into_iter().map(f64::abs));
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let names = [("", mean(&by_token)), ("_max", largest), ("_sum", mean(&by_answer))];
        let named = names.map(|(suffix, value)| (format!("{DRIFT}{suffix}"), value));
        (!by_answer.is_empty()).then(|| named.into())
    }

    fn response(&self, sample: &str, index: usize) -> Result<&Response, ComponentError> {
        answer(&self.responses, sample, index)
            .ok_or_else(|| ComponentError::failed(format!("no responses of sample {sample}")))
    }
}

#[async_trait]
impl Batches for PairBatches<'_> {
    fn epoch(&self, step: u64) -> u64 {
        step / self.per_epoch()
    }

    async fn examples(&self, step: u64) -> Result<Vec<TrainExample>, ComponentError> {
        let calls: Vec<_> = self.pairs_of(step).into_iter().map(|pair| self.example(pair)).collect();
        let at_once = self.of.parts.settings.concurrency.max(1);
        futures::stream::iter(calls).buffered(at_once).try_collect().await
    }
}

fn target(response: &Response) -> Target {
    scored(response, &response.logprobs)
}

/// A response as a training target with reference log-probs.
fn scored(response: &Response, logprobs: &[f32]) -> Target {
    Target {
        continuation: Continuation::Tokens(response.token_ids.clone()),
        reference: Some(logprobs.to_vec()),
    }
}

/// Prefix of the metrics that tell the drift between recorded and scored log-probs; see `StepReport::metrics`.
const DRIFT: &str = "sampling_score_drift";

/// Drift of an answer's log-prob, in nats, above which it is warned of. With the usual beta of 0.1 it moves the logit of
/// a preference loss by 0.1: as much as reward margins are in the first steps, so that pairs begin with a preference
/// that nothing but rounding gave them.
const DRIFT_LIMIT: f64 = 1.0;

fn warn_of_drift(metrics: &BTreeMap<String, f64>) {
    let drift = metrics.get(&format!("{DRIFT}_sum")).copied().unwrap_or_default();
    if drift > DRIFT_LIMIT {
        tracing::warn!(
            drift,
            "log-probs of the same answers under the same weights differ by {drift:.2} nats on average between \
             sampling and training (limit {DRIFT_LIMIT}); set train.reference = \"recompute\", or \
             policy.precision = \"float32\""
        );
    }
}

fn summary(records: &[TrainRecord], epochs: u64) -> TrainSummary {
    let last_epoch: Vec<_> = records.iter().filter(|record| record.epoch + 1 == epochs).collect();
    let is_drift = |name: &str| name.starts_with(DRIFT);
    let mut metrics = BTreeMap::new();
    for record in &last_epoch {
        for (name, value) in record.report.metrics.iter().filter(|(name, _)| !is_drift(name)) {
            *metrics.entry(name.clone()).or_insert(0.0) += value / last_epoch.len() as f64;
        }
    }
    let first = records.first().into_iter().flat_map(|record| &record.report.metrics);
    metrics.extend(first.filter(|(name, _)| is_drift(name)).map(|(name, value)| (name.clone(), *value)));
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
    TrainSummary {
        steps: records.len() as u64,
        first_loss: records.first().map_or(0.0, |record| record.report.loss),
        last_loss: mean(last_epoch.iter().map(|record| record.report.loss).collect()),
        grad_norm: mean(records.iter().map(|record| record.report.grad_norm).collect()),
        metrics,
    }
}
