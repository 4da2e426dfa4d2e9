//! Training: an optimiser step computes log-probs for the objective and backpropagates its gradient.

mod adamw;
mod batch;
mod drift;
mod head;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use adamw::{AdamW, AdamWSettings};
use isr_api::{ObjectiveBatch, PreferenceObjective, Requirements, StepReport, TrainStep, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::chat::Chat;
use crate::error::{Result, TorchError};
use crate::lora::{Adapter, LoraConfig};
use crate::manifest::Manifest;
use crate::model::{ModelConfig, VideoLmm};
pub(crate) use adamw::AdamWState;
use batch::{ForwardMode, TokenizedExample};
use drift::Drift;

/// Settings of training: trained parts, memory, optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingConfig {
    /// Train the language model. Default true.
    pub language_model: bool,
    /// Train the projector. Default false, as in LLaVA-Hound's DPO.
    pub projector: bool,
    /// Train the vision tower. Features are then computed from frames at every use, and an encoder's are ignored.
    /// Default false.
    pub tower: bool,
    /// Maximum number of examples in a micro-batch; gradients accumulate over the micro-batches of a step.
    /// Default 8.
    pub micro_batch: usize,
    /// Maximum number of tokens in a micro-batch, prompts and answers together; an example above it is a
    /// micro-batch by itself. Default 4096.
    pub micro_batch_tokens: usize,
    /// Gradient checkpointing: keep only the decoder layers' inputs between forward and backward pass and
    /// recompute the rest. The same gradients with far less memory, for a third more time. Default false.
    pub gradient_checkpointing: bool,
    /// Train without the decoder's layers: each answer token attends to its prompt's embeddings once, without
    /// parameters, and the next token is predicted from the result. For the projector and tower of a new model,
    /// which learn many times faster with so short a path from a word to its patches. The language model that
    /// results cannot answer, and answers are learned only where each word determines the next, as in the
    /// demonstrations `list` of the miniature. Default false.
    pub skip_decoder: bool,
    /// LoRA: train low-rank adapters on the linear layers of the parts above instead of the parts themselves.
    /// Default: off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// AdamW: decay rates of the first and second moment. Default [0.9, 0.999].
    pub betas: [f64; 2],
    /// AdamW: epsilon. Default 1e-8.
    pub epsilon: f64,
    /// AdamW: decoupled weight decay. Default 0, as in LLaVA-Hound.
    pub weight_decay: f64,
    /// Optimiser: `adamw`, or `adamw_8bit`, whose moments take two bytes a parameter instead of eight. Default `adamw`.
    #[serde(skip_serializing_if = "OptimizerConfig::is_default")]
    pub optimizer: OptimizerConfig,
    /// Memory that holds the optimiser's moments and float32 master weights: `device`, or `cpu`, where the step is taken
    /// then, for a device whose memory they do not fit. Default `device`.
    #[serde(skip_serializing_if = "OptimizerStateConfig::is_default")]
    pub optimizer_state: OptimizerStateConfig,
}

/// Optimiser of training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerConfig {
    /// AdamW with float32 moments.
    #[default]
    Adamw,
    /// AdamW with 8-bit moments (block-wise dynamic quantisation, arXiv 2110.02861); those of parameters below 4,096
    /// elements stay float32.
    #[serde(rename = "adamw_8bit")]
    Adamw8bit,
}

impl OptimizerConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Memory of the optimiser's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerStateConfig {
    /// The policy's device.
    #[default]
    Device,
    /// Host memory; the CPU's cores take the step. Gradients come to the host and weights go back by page-locked buffers.
    Cpu,
}

impl OptimizerStateConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            language_model: true,
            projector: false,
            tower: false,
            micro_batch: 8,
            micro_batch_tokens: 4096,
            gradient_checkpointing: false,
            skip_decoder: false,
            lora: None,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            optimizer: OptimizerConfig::default(),
            optimizer_state: OptimizerStateConfig::default(),
        }
    }
}

impl TrainingConfig {
    /// Checks the ranges of the settings.
    ///
    /// # Errors
    /// The setting that is out of range, with its key.
    pub(crate) fn validate(&self) -> std::result::Result<(), String> {
        if self.micro_batch == 0 {
            return Err("training.micro_batch is 0; it must be at least 1".to_owned());
        }
        if self.micro_batch_tokens == 0 {
            return Err("training.micro_batch_tokens is 0; it must be at least 1".to_owned());
        }
        if !self.betas.iter().all(|beta| (0.0..1.0).contains(beta)) {
            return Err(format!("training.betas are {:?}; each must be in [0, 1)", self.betas));
        }
        if !(self.language_model || self.projector || self.tower) {
            return Err("training trains nothing: set language_model, projector or tower".to_owned());
        }
        self.lora.as_ref().map_or(Ok(()), LoraConfig::validate)
    }

    /// Returns the name prefixes of the trained parts' tensors.
    pub(crate) fn parts(&self, model: &ModelConfig) -> Vec<String> {
        let all = [
            (self.language_model, "language_model."),
            (self.projector, "multi_modal_projector."),
            (self.tower, model.tower()),
        ];
        all.into_iter().filter(|(trained, _)| *trained).map(|(_, prefix)| prefix.to_owned()).collect()
    }
}

/// Trainer of a model, with the optimiser's state.
pub(crate) struct Trainer {
    config: TrainingConfig,
    optimizer: AdamW,
    own_tower: bool,
}

impl Trainer {
    /// Creates a trainer with a fresh optimiser state, and marks the trained tensors.
    pub(crate) fn new(config: TrainingConfig, model: &VideoLmm) -> Result<Self> {
        let trained = match model.weights.adapter() {
            Some(adapter) => adapter.parameters(),
            None => weights_of(&config.parts(&model.config), model),
        };
        for (_, tensor) in &trained {
            let _ = tensor.f_set_requires_grad(true)?;
        }
        let tower = model.config.tower();
        let own_tower = match model.weights.adapter() {
            Some(adapter) => adapter.touches(tower),
            None => config.tower,
        };
        let optimizer = AdamW::new(trained, AdamWSettings::new(&config, model.device));
        Ok(Self { config, optimizer, own_tower })
    }

    /// Returns whether the tower is trained or adapted, so that features must be computed with the current tower
    /// instead of the encoder's.
    pub(crate) fn own_tower(&self) -> bool {
        self.own_tower
    }

    /// Returns the bytes that gradients and the optimiser's state take on the model's device.
    pub(crate) fn state_bytes(&self) -> u64 {
        self.optimizer.state_bytes()
    }

    /// Returns the settings that lower the memory of a step.
    pub(crate) fn memory_remedy(&self) -> String {
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
        remedy
    }

    /// Returns whether steps change the tower's own weights in place; an adapter leaves them unchanged.
    pub(crate) fn trains_tower(&self) -> bool {
        self.config.tower && self.config.lora.is_none()
    }

    /// Takes one optimiser step on a batch of examples. Step 0 resets the optimiser.
    pub(crate) fn step(
        &mut self,
        model: &mut VideoLmm,
        chat: &Chat,
        step: &TrainStep,
        objective: &dyn PreferenceObjective,
    ) -> Result<StepReport> {
        if step.step == 0 {
            self.optimizer.reset();
        }
        let needs = objective.requirements();
        let mut prepared: Vec<TokenizedExample> = step
            .examples
            .iter()
            .map(|example| TokenizedExample::new(model, chat, example, &needs))
            .collect::<Result<_>>()?;
        // Examples of similar length share a micro-batch, so none needs much more memory than the others.
        prepared.sort_by_key(TokenizedExample::length);
        self.optimizer.zero_gradients();
        let mut report = StepReport::default();
        let parts = self.micro_batches(&prepared);
        let several = parts.len() > 1;
        // At step 0 the policy is its own reference.
        let mut drift = (step.step == 0 && needs.reference && !self.drops_out(model)).then(Drift::default);
        for (index, part) in parts.into_iter().enumerate() {
            let share = part.len() as f64 / prepared.len() as f64;
            let outcome = with_dropout(model, (step.seed, index as u32), || {
                self.accumulate(model, part, &needs, objective, share, &mut report, drift.as_mut())
            });
            outcome?;
            if several {
                self.optimizer.collect_gradients()?;
            }
        }
        report.metrics.extend(drift.map(Drift::metrics).unwrap_or_default());
        report.grad_norm = self.optimizer.gradient_norm()?;
        // The factor of torch.nn.utils.clip_grad_norm_.
        let clip = step.max_grad_norm.map_or(1.0, |limit| (limit / (report.grad_norm + 1e-6)).min(1.0));
        if report.grad_norm.is_finite() {
            self.optimizer.step(step.learning_rate, clip)?;
        }
        Ok(report)
    }

    /// Returns whether training drops inputs out, so that its log-probs are not those of the policy.
    fn drops_out(&self, model: &VideoLmm) -> bool {
        model.weights.adapter().is_some_and(Adapter::drops_out)
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

    /// Accumulates the gradient of one micro-batch, weighted by its share of the examples.
    fn accumulate(
        &self,
        model: &VideoLmm,
        part: &[TokenizedExample],
        needs: &Requirements,
        objective: &dyn PreferenceObjective,
        share: f64,
        report: &mut StepReport,
        drift: Option<&mut Drift>,
    ) -> Result<()> {
        let mode = match (self.config.skip_decoder, self.config.gradient_checkpointing) {
            (true, _) => ForwardMode::SkipDecoder,
            (false, true) => ForwardMode::Checkpointed,
            (false, false) => ForwardMode::Full,
        };
        let forward = batch::forward(model, part, needs, self.own_tower, mode)?;
        if let Some(drift) = drift {
            batch::each_answer(part, needs, &forward.values, |view, policy, reference| {
                if matches!(view, View::Chosen | View::Rejected) {
                    drift.add(policy, reference);
                }
            });
        }
        let views = batch::views(part, needs, &forward.values);
        let value = objective
            .evaluate(&ObjectiveBatch { views })
            .map_err(|error| TorchError::Objective(format!("the objective failed: {error}")))?;
        let coefficients = batch::token_gradients(part, needs, &value.gradients)?;
        let coefficients: Vec<f32> = coefficients.iter().map(|value| (value * share) as f32).collect();
        report.tokens += forward.values.len() as u64;
        forward.backward(&coefficients)?;
        report.loss += value.loss * share;
        merge(&mut report.metrics, &value.metrics, share);
        Ok(())
    }

    /// Writes the optimiser's state beside a checkpoint.
    pub(crate) fn save(&self, dir: &Path, manifest: &mut Manifest) -> Result<()> {
        self.optimizer.state()?.save(dir, manifest)
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

/// Returns the weights under some name prefixes.
fn weights_of(parts: &[String], model: &VideoLmm) -> Vec<(String, Tensor)> {
    let trained = |name: &str| parts.iter().any(|part| name.starts_with(part.as_str()));
    let all = model.weights.iter().filter(|(name, _)| trained(name));
    all.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

/// Runs `work` with the adapter's dropout enabled, its masks drawn from a step's seed and the micro-batch's index.
fn with_dropout<T>(model: &VideoLmm, micro_batch: (u64, u32), work: impl FnOnce() -> T) -> T {
    let set = |micro_batch| {
        if let Some(adapter) = model.weights.adapter() {
            adapter.set_dropout(micro_batch);
        }
    };
    set(Some(micro_batch));
    let outcome = work();
    set(None);
    outcome
}

/// Adds metrics, weighted by `share`.
fn merge(into: &mut BTreeMap<String, f64>, metrics: &BTreeMap<String, f64>, share: f64) {
    for (name, value) in metrics {
        *into.entry(name.clone()).or_insert(0.0) += value * share;
    }
}
