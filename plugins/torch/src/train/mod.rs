//! Training: an optimiser step computes log-probs for the objective and backpropagates its gradient.
//!
//! Several processes take a step together, each on its part of the batch ([`parallel`]): loss and metrics are those of the
//! whole batch, gradients are summed, and all processes end with the same weights.

mod accumulation;
mod adamw;
mod batch;
mod config;
mod head;
pub(crate) mod parallel;
#[cfg(test)]
mod tests;
mod whole_batch;

use std::path::Path;
use std::sync::Arc;

use adamw::{AdamW, AdamWSettings, DividedLayers};
use isr_api::{PreferenceObjective, Requirements, ScoreDrift, StepReport, TrainExample, TrainStep};
use tch::Tensor;

use crate::chat::Chat;
use crate::error::{Result, TorchError};
use crate::lora::Adapter;
use crate::manifest::Manifest;
use crate::model::VideoLmm;
use crate::process_group::Collectives;
use accumulation::Accumulation;
pub(crate) use adamw::{AdamWState, dynamic_map};
use batch::TokenizedExample;
pub use config::{OptimizerConfig, OptimizerStateConfig, ParallelConfig, ShardConfig, TrainingConfig};
use parallel::Processes;

/// Trainer of a model, with the optimiser's state.
pub(crate) struct Trainer {
    config: TrainingConfig,
    optimizer: AdamW,
    own_tower: bool,
    trains_tower: bool,
    processes: Processes,
    /// Decoder layers whose weights and gradients the processes divide while a step is taken.
    layers: Option<DividedLayers>,
}

impl Trainer {
    /// Creates a trainer with a fresh optimiser state, and marks the trained tensors. Each process of a `group` creates one,
    /// of the same model.
    pub(crate) fn new(
        config: TrainingConfig,
        model: &VideoLmm,
        group: Option<Arc<dyn Collectives>>,
    ) -> Result<Self> {
        let trained = match model.weights.adapter() {
            Some(adapter) => adapter.parameters(),
            None => weights_of(&config.parts(&model.config), model),
        };
        for (_, tensor) in &trained {
            let _ = tensor.f_set_requires_grad(true)?;
        }
        let tower = model.config.tower();
        let (own_tower, trains_tower) = match model.weights.adapter() {
            Some(adapter) => (adapter.touches(tower), adapter.saves_under(tower)),
            None => (config.tower, config.tower && config.lora.is_none()),
        };
        let processes = Processes::new(group);
        let settings = AdamWSettings::new(&config, model.device);
        let layers = match config.parallel.shard == ShardConfig::Full && processes.count() > 1 {
            true => Some(DividedLayers::new(layers_of(model), &settings, &processes)?),
            false => None,
        };
        let optimizer = AdamW::new(trained, settings, processes.clone());
        Ok(Self { config, optimizer, own_tower, trains_tower, processes, layers })
    }

    /// Returns the processes that train together.
    pub(crate) fn processes(&self) -> &Processes {
        &self.processes
    }

    /// Returns whether the tower is trained or adapted, so that features must be computed with the current tower
    /// instead of the encoder's.
    pub(crate) fn own_tower(&self) -> bool {
        self.own_tower
    }

    /// Returns the bytes that gradients and the optimiser's state take on the model's device.
    pub(crate) fn state_bytes(&self) -> u64 {
        self.optimizer.state_bytes() - self.layers.as_ref().map_or(0, DividedLayers::spared_bytes)
    }

    /// Returns the bytes of the optimiser's state that this process holds now.
    #[cfg(test)]
    fn held_bytes(&self) -> u64 {
        self.optimizer.held_bytes()
    }

    /// Returns the settings that lower the memory of a step.
    fn memory_remedy(&self) -> String {
        let TrainingConfig { micro_batch, micro_batch_tokens, .. } = self.config;
        let mut remedy = format!(
            "lower policy.training.micro_batch_tokens (it is {micro_batch_tokens}) or micro_batch (it is {micro_batch})"
        );
        if !self.config.gradient_checkpointing {
            remedy.push_str(", set policy.training.gradient_checkpointing = true");
        }
        if self.config.lora.is_none() {
            remedy.push_str(", train an adapter (policy.training.lora)");
            if self.config.optimizer_state == OptimizerStateConfig::Device {
                remedy.push_str(" or keep the optimiser's state on the host (policy.training.optimizer_state = \"cpu\")");
            }
        }
        let divides_all = self.config.parallel.shard == ShardConfig::Full || self.config.skip_decoder;
        if self.processes.count() > 1 && !divides_all {
            remedy.push_str(
                ", or divide more over the processes (policy.training.parallel.shard = \"full\")",
            );
        }
        remedy
    }

    /// Returns whether steps change the tower's own weights in place; an adapter leaves them unchanged.
    pub(crate) fn trains_tower(&self) -> bool {
        self.trains_tower
    }

    /// Takes one optimiser step on a batch of examples. Step 0 resets the optimiser. Of several processes, each calls this
    /// with its part of the batch; the report is that of the whole.
    ///
    /// # Errors
    /// A failure of one process is returned by all. Short memory is told with the settings that lower it.
    pub(crate) fn step(
        &mut self,
        model: &mut VideoLmm,
        chat: &Chat,
        step: &TrainStep,
        objective: &dyn PreferenceObjective,
    ) -> Result<StepReport> {
        if model.weights.is_quantised() && model.weights.adapter().is_none() {
            return Err(TorchError::Adapter(
                "weights in 4 bits cannot be trained themselves; train an adapter on them: set policy.training.lora, or \
                 leave policy.quantization out"
                    .to_owned(),
            ));
        }
        if step.step == 0 {
            self.optimizer.reset();
        }
        let needs = objective.requirements();
        let (prepared, counted) = match tokenized(model, chat, &step.examples, &needs) {
            Ok(all) => {
                let counts = (all.len(), self.micro_batches(&all).len());
                (all, Ok(counts))
            }
            Err(error) => (Vec::new(), Err(error)),
        };
        let place = self.processes.place(counted)?;
        self.optimizer.zero_gradients();
        self.layers.as_ref().inspect(|layers| layers.zero_gradients());
        let micro_batches = self.micro_batches(&prepared);
        let accumulation = Accumulation {
            model,
            config: &self.config,
            needs: &needs,
            objective,
            own_tower: self.own_tower,
            seed: step.seed,
            place,
            // At step 0 the policy is its own reference, unless training drops inputs out.
            measures_drift: step.step == 0 && needs.reference && !drops_out(model),
            processes: &self.processes,
            layers: self.layers.as_ref(),
        };
        let found = accumulation.run(&micro_batches, &mut self.optimizer);
        let found = match self.processes.total(found.map_err(|error| self.advised(error))) {
            Ok(found) => found,
            Err(error) => return Err(self.restored(error)),
        };
        let mut report = StepReport { loss: found.loss, tokens: found.tokens, ..StepReport::default() };
        report.metrics = found.metrics;
        report.metrics.extend(found.drift.map(ScoreDrift::metrics).unwrap_or_default());
        let updated = self.update(step, &found.has_gradient);
        model.weights.adapter().inspect(|adapter| adapter.invalidate());
        match updated {
            Ok(norm) => report.grad_norm = norm,
            Err(error) => return Err(self.restored(self.advised(error))),
        }
        Ok(report)
    }

    /// Gathers divided weights again, as they were before a step that has failed on all processes.
    fn restored(&self, error: TorchError) -> TorchError {
        let restored = self.layers.as_ref().map_or(Ok(()), DividedLayers::gather_all);
        if let Err(further) = restored {
            tracing::error!(error = %further, "the weights of the decoder's layers are lost");
        }
        error
    }

    /// Updates the weights by the accumulated gradients; returns their norm before clipping.
    fn update(&mut self, step: &TrainStep, has_gradient: &[bool]) -> Result<f64> {
        self.optimizer.sum_gradients(has_gradient, self.layers.as_ref())?;
        let norm = self.optimizer.gradient_norm()?;
        // The factor of torch.nn.utils.clip_grad_norm_.
        let clip = step.max_grad_norm.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
        if norm.is_finite() {
            self.layers.as_ref().map_or(Ok(()), DividedLayers::place_shares)?;
            self.optimizer.step(step.learning_rate, clip)?;
            self.layers.as_ref().inspect(|layers| layers.accept());
        }
        self.layers.as_ref().inspect(|layers| layers.zero_gradients());
        self.layers.as_ref().map_or(Ok(()), DividedLayers::gather_all)?;
        Ok(norm)
    }

    /// Adds to an error about memory what to change.
    fn advised(&self, error: TorchError) -> TorchError {
        error.with_remedy("in a training step", || self.memory_remedy())
    }

    /// Splits examples into micro-batches of neighbours.
    fn micro_batches<'p>(&self, mut rest: &'p [TokenizedExample]) -> Vec<&'p [TokenizedExample]> {
        let limit = self.config.micro_batch_tokens;
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let mut tokens = 0_usize;
            let fits = |example: &&TokenizedExample| {
                tokens = tokens.saturating_add(example.length());
                tokens <= limit
            };
            let count = rest.iter().take(self.config.micro_batch).take_while(fits).count().max(1);
            let (part, behind) = rest.split_at(count);
            parts.push(part);
            rest = behind;
        }
        parts
    }

    /// Writes the optimiser's state beside a checkpoint: where it is divided, each process its share.
    pub(crate) fn save(&self, dir: &Path, manifest: &mut Manifest) -> Result<()> {
        match self.optimizer.is_divided() || self.processes.rank() == 0 {
            true => self.optimizer.state()?.save(dir, manifest),
            false => Ok(()),
        }
    }

    /// Reads an optimiser's state without restoring it.
    pub(crate) fn read(&self, dir: &Path) -> Result<AdamWState> {
        AdamWState::read(dir, &self.optimizer)
    }

    /// Restores a state; resets the optimiser if there is none.
    pub(crate) fn restore(&mut self, state: Option<AdamWState>) -> Result<()> {
        self.optimizer.reset();
        state.map_or(Ok(()), |state| self.optimizer.restore(&state))
    }
}

/// Returns the weights of each decoder layer.
fn layers_of(model: &VideoLmm) -> Vec<Vec<(String, Tensor)>> {
    let layer = |index: usize| weights_of(&[format!("language_model.model.layers.{index}.")], model);
    (0..model.decoder.depth()).map(layer).collect()
}

/// Returns the weights under some name prefixes, but those that an adapter trains in full.
fn weights_of(parts: &[String], model: &VideoLmm) -> Vec<(String, Tensor)> {
    let trained = |name: &str| parts.iter().any(|part| name.starts_with(part.as_str()));
    let all = model.weights.frozen().filter(|(name, _)| trained(name));
    all.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

/// Tokenises examples, ordered by length: those of similar length share a micro-batch, so none needs much more memory than
/// the others.
fn tokenized(
    model: &VideoLmm,
    chat: &Chat,
    examples: &[TrainExample],
    needs: &Requirements,
) -> Result<Vec<TokenizedExample>> {
    let prepared = examples.iter().map(|example| TokenizedExample::new(model, chat, example, needs));
    let mut prepared = prepared.collect::<Result<Vec<_>>>()?;
    prepared.sort_by_key(TokenizedExample::length);
    Ok(prepared)
}

/// Returns whether training drops inputs out, so that its log-probs are not those of the policy.
fn drops_out(model: &VideoLmm) -> bool {
    model.weights.adapter().is_some_and(Adapter::drops_out)
}
