//! Gradients of a batch, accumulated over micro-batches.

use isr_api::{ObjectiveBatch, PreferenceObjective, Requirements, ScoreDrift, View, ViewLogProbs};

use super::adamw::{AdamW, DividedLayers, Pass};
use super::batch::{self, Forward, ForwardMode, TokenizedExample};
use super::config::TrainingConfig;
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
    /// Layers whose weights the processes divide, in whose passes all take part.
    pub(super) layers: Option<&'s DividedLayers>,
}

impl Accumulation<'_> {
    /// Accumulates the gradients of micro-batches in `optimizer`; returns what this process adds to the step's report.
    pub(super) fn run(
        &self,
        micro_batches: &[&[TokenizedExample]],
        optimizer: &mut AdamW,
    ) -> Result<Tally> {
        let mut tally = Tally { drift: self.measures_drift.then(ScoreDrift::default), ..Tally::default() };
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
        let mut outcome = Ok(());
        for index in 0..self.passes(micro_batches) {
            let part = micro_batches.get(index).filter(|_| outcome.is_ok());
            let done = self.with_dropout(index, || {
                let forward = self
                    .pass(Pass::Forward, || part.map(|part| self.forward(part, self.mode())).transpose());
                let evaluated = forward.and_then(|forward| match (forward, part) {
                    (Some(forward), Some(part)) => {
                        let (share, views) =
                            (self.share(part.len()), self.log_probs(part, &forward, tally));
                        let value = self.objective.evaluate(&ObjectiveBatch { views }).map_err(failed)?;
                        tally.add_value(value.loss, &value.metrics, share);
                        Ok(Some((forward, self.coefficients(part, &value.gradients, share)?)))
                    }
                    _ => Ok(None),
                });
                self.backward(evaluated)
            });
            outcome = outcome.and(done);
            self.collect(micro_batches, optimizer, &mut outcome);
        }
        outcome
    }

    /// Evaluates the objective on the log-probs of the whole batch. A single micro-batch keeps its graph meanwhile; of
    /// several, log-probs are computed without a graph first.
    fn together(
        &self,
        micro_batches: &[&[TokenizedExample]],
        optimizer: &mut AdamW,
        tally: &mut Tally,
    ) -> Result<()> {
        let passes = self.passes(micro_batches);
        let mut kept = None;
        let mut scored: Result<Vec<Vec<ViewLogProbs>>> = Ok(Vec::new());
        for index in 0..passes {
            let part = micro_batches.get(index).filter(|_| scored.is_ok());
            let forward = self.with_dropout(index, || {
                self.pass(Pass::Forward, || {
                    let forward = |part: &&[TokenizedExample]| match passes {
                        1 => self.forward(part, self.mode()),
                        _ => tch::no_grad(|| self.forward(part, self.mode().without_graph())),
                    };
                    part.map(forward).transpose()
                })
            });
            match (forward, part, &mut scored) {
                (Ok(Some(forward)), Some(part), Ok(all)) => {
                    all.push(self.log_probs(part, &forward, tally));
                    kept = (passes == 1).then_some(forward);
                }
                (Err(error), _, Ok(_)) => scored = Err(error),
                _ => {}
            }
        }
        let evaluated = WholeBatch::gather(self.processes, self.needs, scored)?.evaluate(self.objective);
        let (gradients, mut outcome) = match evaluated {
            Ok((value, gradients)) => {
                let examples: usize = micro_batches.iter().map(|part| part.len()).sum();
                tally.add_value(value.loss, &value.metrics, self.share(examples));
                (gradients, Ok(()))
            }
            Err(error) => (Vec::new(), Err(error)),
        };
        for index in 0..passes {
            let given = micro_batches.get(index).zip(gradients.get(index)).filter(|_| outcome.is_ok());
            let done = self.with_dropout(index, || {
                let forward = match passes {
                    1 => Ok(kept.take().filter(|_| given.is_some())),
                    _ => self.pass(Pass::Forward, || {
                        given.map(|(part, _)| self.forward(part, self.mode())).transpose()
                    }),
                };
                // Derivatives of the whole batch's mean.
                let evaluated = forward.and_then(|forward| match (forward, given) {
                    (Some(forward), Some((part, gradient))) => {
                        Ok(Some((forward, self.coefficients(part, gradient, 1.0)?)))
                    }
                    _ => Ok(None),
                });
                self.backward(evaluated)
            });
            outcome = outcome.and(done);
            self.collect(micro_batches, optimizer, &mut outcome);
        }
        outcome
    }

    /// Returns the number of passes: the micro-batches; with divided layers, whose passes all processes take part in, those
    /// of the process that has most.
    fn passes(&self, micro_batches: &[&[TokenizedExample]]) -> usize {
        self.layers.map_or(micro_batches.len(), |_| self.place.most_micro_batches)
    }

    /// Does a pass, and with divided layers all that the other processes expect of it.
    fn pass<T>(&self, pass: Pass, work: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.layers {
            Some(layers) => layers.complete(pass, work),
            None => work(),
        }
    }

    /// Moves gradients of one of several micro-batches into their sums.
    fn collect(
        &self,
        micro_batches: &[&[TokenizedExample]],
        optimizer: &mut AdamW,
        outcome: &mut Result<()>,
    ) {
        if micro_batches.len() > 1 && outcome.is_ok() {
            *outcome = optimizer.collect_gradients();
        }
    }

    /// Returns the share of some examples in the batch.
    fn share(&self, examples: usize) -> f64 {
        examples as f64 / self.place.examples as f64
    }

    fn mode(&self) -> ForwardMode<'_> {
        match (self.layers, self.config.skip_decoder, self.config.gradient_checkpointing) {
            (Some(layers), ..) => ForwardMode::Checkpointed(Some(layers)),
            (None, true, _) => ForwardMode::SkipDecoder,
            (None, false, true) => ForwardMode::Checkpointed(None),
            (None, false, false) => ForwardMode::Full,
        }
    }

    fn forward<'f>(&'f self, part: &[TokenizedExample], mode: ForwardMode<'f>) -> Result<Forward<'f>> {
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

    /// Returns the loss's derivative by each log-prob, weighted by `share`.
    fn coefficients(
        &self,
        part: &[TokenizedExample],
        gradients: &[Vec<f64>],
        share: f64,
    ) -> Result<Vec<f32>> {
        let coefficients = batch::token_gradients(part, self.needs, gradients)?;
        Ok(coefficients.iter().map(|value| (value * share) as f32).collect())
    }

    /// Backpropagates from log-probs by their coefficients, if there are any.
    fn backward(&self, evaluated: Result<Option<(Forward<'_>, Vec<f32>)>>) -> Result<()> {
        self.pass(Pass::Backward, || match evaluated? {
            Some((forward, coefficients)) => forward.backward(&coefficients),
            None => Ok(()),
        })
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
