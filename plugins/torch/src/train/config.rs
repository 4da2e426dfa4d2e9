//! Settings of training.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lora::LoraConfig;
use crate::model::ModelConfig;

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
    /// Training by several processes, each of which takes its part of a step's examples. Without effect in one process.
    #[serde(skip_serializing_if = "ParallelConfig::is_default")]
    pub parallel: ParallelConfig,
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

/// Settings of training by several processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParallelConfig {
    /// What is divided over the processes instead of held by each: `none`; `optimizer`, the optimiser's moments and float32
    /// master weights (ZeRO-1, arXiv 1910.02054); or `full`, in a step the decoder layers' weights and gradients too, with
    /// gradient checkpointing (as ZeRO-3). Results do not depend on it but by rounding, and checkpoints can be continued
    /// with another. Default `none`.
    pub shard: ShardConfig,
}

impl ParallelConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What processes divide among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShardConfig {
    /// Nothing: each process holds weights, gradients and the optimiser's state. Gradients are summed over processes.
    #[default]
    None,
    /// Moments and float32 master weights: each process updates its share of the weights, which all then receive.
    Optimizer,
    /// The same, and while a step is taken the weights and gradients of the decoder's layers, which are gathered for the
    /// computation of one layer at a time. Implies `gradient_checkpointing`. Between steps all weights are on each device.
    Full,
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
            parallel: ParallelConfig::default(),
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
        if self.skip_decoder && self.parallel.shard == ShardConfig::Full {
            let text = "training.parallel.shard is full, which divides the decoder's layers, but training.skip_decoder leaves \
                        them out; set shard = \"optimizer\"";
            return Err(text.to_owned());
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
