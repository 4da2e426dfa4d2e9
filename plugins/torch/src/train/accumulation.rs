//! Gradients of a batch, accumulated over micro-batches.

use isr_api::{ObjectiveBatch, PreferenceObjective, Requirements, View, ViewLogProbs};

use super::adamw::AdamW;
use super::batch::{self, Forward, ForwardMode, TokenizedExample};
use super::config::TrainingConfig;
use super::drift::Drift;
use super::parallel::{Place, Processes, Tally};
use super::whole_batch::{WholeBatch, failed};
use crate::error::Result;
use crate::model::VideoLmm;

/// Accumulation of a step's gradients.
pub(super) struct Accumulation<'s> {
    pub(super) model: &'s VideoLmm,
    pub(super) config: &'s TrainingConfig,
    pub(super) needs: &'s Requirements,
    pub(super) objective: &'s dyn PreferenceObjective,
    /// Whether features are computed by the current tower.
    pub(super) own_tower: bool,
    /// Seed of the step's random draws.
    pub(super) seed: u64,
    /// Place of this process's examples in the batch.
    pub(super) place: Place,
    /// Whether log-probs are compared with the reference's.
    pub(super) measures_drift: bool,
    pub(super) processes: &'s Processes,
}

impl Accumulation<'_> {
    /// Accumulates the gradients of micro-batches in `optimizer`; returns what this process adds to the step's report.
    pub(super) fn run(
        &self,
        micro_batches: &[&[TokenizedExample]],
        optimizer: &mut AdamW,
    ) -> Result<Tally> {
        let mut tally = Tally { drift: self.measures_drift.then(Drift::default), ..Tally::default() };
        match self.needs.across_batch && self.place.examples > 0 {
            true => self.together(micro_batches, optimizer, &mut tally)?,
            false => self.apart(micro_batches, optimizer, &mut tally)?,
        }
        tally.has_gradient = optimizer.has_gradient()?;
        Ok(tally)
    }

    /// Evaluates the objective on each micro-batch.
    fn apart(
        &self,
        micro_batches: &[&[TokenizedExample]],
        optimizer: &mut AdamW,
        tally: &mut Tally,
    ) -> Result<()> {
        for (index, part) in micro_batches.iter().enumerate() {
            let share = self.share(part.len());
            self.with_dropout(index, || {
                let forward = self.forward(part, self.mode())?;
                let views = self.log_probs(part, &forward, tally);
                let value = self.objective.evaluate(&ObjectiveBatch { views }).map_err(failed)?;
                tally.add_value(value.loss, &value.metrics, share);
                self.backward(forward, part, &value.gradients, share)
            })?;
            if micro_batches.len() > 1 {
                optimizer.collect_gradients()?;
            }
        }
        Ok(())
    }

    /// Evaluates the objective on the log-probs of the whole batch. A single micro-batch keeps its graph meanwhile; of
    /// several, log-probs are computed without a graph first.
    fn together(
        &self,
        micro_batches: &[&[TokenizedExample]],
        optimizer: &mut AdamW,
        tally: &mut Tally,
    ) -> Result<()> {
        let several = micro_batches.len() > 1;
        let mut kept = None;
        let scored = |(index, part): (usize, &&[TokenizedExample])| {
            self.with_dropout(index, || {
                let forward = match several {
                    true => tch::no_grad(|| self.forward(part, self.mode().without_graph()))?,
                    false => self.forward(part, self.mode())?,
                };
                let views = self.log_probs(part, &forward, tally);
                kept = (!several).then_some(forward);
                Ok(views)
            })
        };
        let scored: Result<Vec<Vec<ViewLogProbs>>> = micro_batches.iter().enumerate().map(scored).collect();
        let batch = WholeBatch::gather(self.processes, self.needs, scored)?;
        let (value, gradients) = batch.evaluate(self.objective)?;
        let examples: usize = micro_batches.iter().map(|part| part.len()).sum();
        tally.add_value(value.loss, &value.metrics, self.share(examples));
        for (index, (part, gradient)) in micro_batches.iter().zip(gradients).enumerate() {
            self.with_dropout(index, || {
                let forward = kept.take().map_or_else(|| self.forward(part, self.mode()), Ok)?;
                // Derivatives of the whole batch's mean.
                self.backward(forward, part, &gradient, 1.0)
            })?;
            if several {
                optimizer.collect_gradients()?;
            }
        }
        Ok(())
    }

    /// Returns the share of some examples in the batch.
    fn share(&self, examples: usize) -> f64 {
        examples as f64 / self.place.examples as f64
    }

    fn mode(&self) -> ForwardMode {
        match (self.config.skip_decoder, self.config.gradient_checkpointing) {
            (true, _) => ForwardMode::SkipDecoder,
            (false, true) => ForwardMode::Checkpointed,
            (false, false) => ForwardMode::Full,
        }
    }

    fn forward(&self, part: &[TokenizedExample], mode: ForwardMode) -> Result<Forward<'_>> {
        batch::forward(self.model, part, self.needs, self.own_tower, mode)
    }

    /// Arranges a micro-batch's log-probs for the objective, and counts them.
    fn log_probs(
        &self,
        part: &[TokenizedExample],
        forward: &Forward<'_>,
        tally: &mut Tally,
    ) -> Vec<ViewLogProbs> {
        tally.tokens += forward.values.len() as u64;
        if let Some(drift) = &mut tally.drift {
            batch::each_answer(part, self.needs, &forward.values, |view, policy, reference| {
                if matches!(view, View::Chosen | View::Rejected) {
                    drift.add(policy, reference);
                }
            });
        }
        batch::views(part, self.needs, &forward.values)
    }

    /// Backpropagates the objective's gradient, weighted by `share`.
    fn backward(
        &self,
        forward: Forward<'_>,
        part: &[TokenizedExample],
        gradients: &[Vec<f64>],
        share: f64,
    ) -> Result<()> {
        let coefficients = batch::token_gradients(part, self.needs, gradients)?;
        let coefficients: Vec<f32> = coefficients.iter().map(|value| (value * share) as f32).collect();
        forward.backward(&coefficients)
    }

    /// Runs `work` with the adapter's dropout enabled, its masks drawn from the step's seed and the micro-batch's index
    /// among those of all processes.
    fn with_dropout<T>(&self, index: usize, work: impl FnOnce() -> T) -> T {
        let set = |micro_batch| {
            if let Some(adapter) = self.model.weights.adapter() {
                adapter.set_dropout(micro_batch);
            }
        };
        set(Some((self.seed, self.place.micro_batches_before + index as u32)));
        let outcome = work();
        set(None);
        outcome
    }
}
