//! Video LMM as a policy: the component `torch`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, CheckpointKind, Component, ComponentError, Fingerprint, GenerateRequest, Policy,
    PreferenceObjective, ProgressSender, Prompt, ReasoningFormat, Response, ScoreRequest, StepReport,
    TokenLogProbs, TrainStep, VideoEncoder,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::capacity::Capacity;
use crate::chat::{Chat, ReasoningConfig, check_date};
use crate::checkpoint::Checkpoint;
use crate::device::{PrecisionConfig, parse_device};
use crate::device_clock;
use crate::engine::{Command, Engine, EngineHandle, Logits, PrefixCache};
use crate::error::Result;
use crate::lora::{Adapter, is_adapter};
use crate::model::families::read_config;
use crate::model::{Decoding, Quantization, VideoLmm};
use crate::model_paths::{ModelPaths, check_model};
use crate::process_group::{self, Collectives};
use crate::train::{Trainer, TrainingConfig};

/// Video LMM of a checkpoint folder: LLaVA, Video-LLaVA, LLaVA-NeXT-Video, LLaVA-OneVision, InternVL3, Qwen2-VL, Qwen2.5-VL or Qwen3-VL in
/// transformers' layout, LLaVA-Hound, ISR-DPO or LLaVA-Video in LLaVA's own.
///
/// `docs/families.md` lists the supported features of each family.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TorchPolicyConfig {
    /// Checkpoint folder, relative to the current directory, or hub name; or the folder of a PEFT adapter that names
    /// its base, which is then trained further.
    pub model: PathBuf,
    /// Folder of a PEFT adapter to put on `model`, whatever base it names. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`. Default `auto`.
    #[serde(default = "default_device")]
    pub device: String,
    /// Dtype of weights and activations: `float32`, `bfloat16` or `auto`, which on a GPU is that of the checkpoint's
    /// weights (bfloat16 for float16), on a CPU `float32`. Default `auto`.
    #[serde(default, skip_serializing_if = "PrecisionConfig::is_auto")]
    pub precision: PrecisionConfig,
    /// Quantisation of the decoder's linear layers: `nf4` or `nf4_double` (QLoRA). They are not trained themselves; train an
    /// adapter (`training.lora`). Checkpoints that bitsandbytes has quantised are read as they are. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// Batch size of decoding: answers that are generated at once. 1 or a multiple of 8, for which results on a CPU
    /// do not depend on the other answers in the batch. Default: on a GPU 8 to 128, by the memory that model and
    /// optimiser leave free; on a CPU 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Arrangement of decoding steps: `reproducible`, `fused` or `auto`, which is `fused` on a GPU and `reproducible` on
    /// a CPU. Default `auto`.
    #[serde(default, skip_serializing_if = "DecodingConfig::is_auto")]
    pub decoding: DecodingConfig,
    /// Size of the prefix cache in MiB: keys and values of prompts up to the end of their last video, so that a video
    /// is prefilled once for all prompts between two updates of the weights. Results do not depend on it.
    /// Default: on a GPU by the memory that model and optimiser leave free; on a CPU 2048.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_cache_mb: Option<usize>,
    /// Number of CPU threads for one operation; 0 leaves the choice to libtorch. Default 0.
    #[serde(default)]
    pub threads: usize,
    /// Maximum size of a saved weight file, in GB (10^9 bytes). Default 5.
    #[serde(default = "default_shard_gb")]
    pub shard_gb: f64,
    /// Verify every file against its digest in the checkpoint's `manifest.json`, if it has one. Otherwise sizes are
    /// verified, and digests of files up to 16 MiB. Default false.
    #[serde(default)]
    pub verify: bool,
    /// Date, `YYYY-MM-DD`, for chat templates that ask for today's with `strftime_now`, as Llama 3's do. Default: that
    /// of the environment's `SOURCE_DATE_EPOCH`, else the day on which the model is loaded (UTC), and a run that is
    /// continued on another day has other prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_date: Option<String>,
    /// Reasoning that the model writes before its answers: `auto` for the markers that its chat template or tokenizer names, such
    /// as `<think>`; `off` for none, so that all it writes is its answer; or markers, `{ open = "<think>", close =
    /// "</think>" }`. Reasoning is sampled and trained on with the answer; judges, lengths, scorers and exports see the
    /// answer alone. Default `auto`.
    #[serde(default, skip_serializing_if = "ReasoningConfig::is_auto")]
    pub reasoning: ReasoningConfig,
    /// Settings of training.
    #[serde(default)]
    pub training: TrainingConfig,
}

/// Arrangement of decoding steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecodingConfig {
    /// `fused` on a GPU, `reproducible` on a CPU.
    #[default]
    Auto,
    /// Each request attends in a call of its own, so that answers do not depend on the batch.
    Reproducible,
    /// All sequences of the batch attend together, in a number of operations that does not depend on them.
    Fused,
}

impl DecodingConfig {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }

    /// Chooses for a device.
    fn on(self, device: Device) -> Decoding {
        match self {
            Self::Fused => Decoding::Fused,
            Self::Reproducible => Decoding::Reproducible,
            Self::Auto if device.is_cuda() => Decoding::Fused,
            Self::Auto => Decoding::Reproducible,
        }
    }
}

fn default_device() -> String {
    "auto".to_owned()
}

fn default_shard_gb() -> f64 {
    5.0
}

impl TorchPolicyConfig {
    /// Creates the default config of a checkpoint folder.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            adapter: None,
            device: default_device(),
            precision: PrecisionConfig::default(),
            quantization: None,
            batch: None,
            decoding: DecodingConfig::default(),
            prefix_cache_mb: None,
            threads: 0,
            shard_gb: default_shard_gb(),
            verify: false,
            template_date: None,
            reasoning: ReasoningConfig::default(),
            training: TrainingConfig::default(),
        }
    }

    /// Loads the model on a thread of its own.
    ///
    /// # Errors
    /// A checkpoint that cannot be resolved or read, or a device that is not available.
    pub fn load(&self) -> Result<TorchPolicy> {
        self.load_with_seed(0)
    }

    /// Loads the model with a run's seed, from which the initial values of a new adapter derive.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn load_with_seed(&self, run_seed: u64) -> Result<TorchPolicy> {
        self.load_in_group(run_seed, process_group::collectives())
    }

    /// Loads the model in a process of a group whose processes train together.
    pub(crate) fn load_in_group(
        &self,
        run_seed: u64,
        group: Option<Arc<dyn Collectives>>,
    ) -> Result<TorchPolicy> {
        let (config, in_group) = (self.clone(), group.is_some());
        Ok(TorchPolicy { engine: Engine::spawn(move || config.engine(run_seed, group))?, in_group })
    }

    /// Loads the model on this thread.
    pub(crate) fn engine(&self, run_seed: u64, group: Option<Arc<dyn Collectives>>) -> Result<Engine> {
        if self.threads > 0 {
            tch::set_num_threads(self.threads as i32);
        }
        let device = parse_device(&self.device)?;
        let paths = ModelPaths::resolve(&self.model, self.adapter.as_deref())?;
        paths.verify(self.verify)?;
        let adapter = self.adapter(&paths, device, run_seed)?;
        let decoding = self.decoding.on(device);
        let precision = self.precision.choose(&paths.base, device)?;
        let (kind, quantization) = (precision.kind(), self.quantization);
        let model = VideoLmm::load_for(&paths.base, adapter, kind, device, decoding, quantization)?;
        if model.weights.is_quantised() && model.weights.adapter().is_none() {
            tracing::warn!(
                "weights in 4 bits: this policy answers and scores; training needs policy.training.lora"
            );
        }
        let chat = Chat::read(&paths.base, &model.config, self.template_date.as_deref(), &self.reasoning)?;
        if let (Some(date), None) = (chat.date(), &self.template_date) {
            tracing::warn!(%date, "the chat template asks for the date; template_date fixes it, so that a run can be repeated");
        }
        let checkpoint = Checkpoint::read(&paths.base, chat.stops())?;
        let trainer = Trainer::new(self.training.clone(), &model, group)?;
        let identity = Fingerprint::of(format!("{precision:?} {}", chat.identity()));
        let shard_bytes = (self.shard_gb * 1e9) as u64;
        let given = (self.batch, self.prefix_cache_mb);
        let capacity = Capacity::choose(given, &model, trainer.state_bytes());
        tracing::info!(
            ?device,
            ?precision,
            batch = capacity.batch,
            prefix_cache_mb = capacity.prefix_cache_mb,
            "policy loaded"
        );
        let prefixes = PrefixCache::new((capacity.prefix_cache_mb as u64) << 20);
        Ok(Engine::new(
            model,
            chat,
            checkpoint,
            trainer,
            capacity.batch,
            shard_bytes,
            identity,
            precision,
            prefixes,
        ))
    }

    /// Reads the adapter if there is one, or creates one if the config asks for it.
    fn adapter(&self, paths: &ModelPaths, device: Device, run_seed: u64) -> Result<Option<Adapter>> {
        let lora = self.training.lora.as_ref();
        let config = read_config(&paths.base)?;
        match (&paths.adapter, lora) {
            (Some(folder), _) => Ok(Some(Adapter::read(folder, lora, &paths.base, config.names, device)?)),
            (None, Some(lora)) => {
                let parts = self.training.parts(&config);
                let lora = lora.clone();
                Adapter::create(lora, run_seed, &paths.base, config.names, parts, device).map(Some)
            }
            (None, None) => Ok(None),
        }
    }
}

impl Component for TorchPolicyConfig {
    type Built = Arc<dyn Policy>;

    fn validate(&self) -> std::result::Result<(), String> {
        if let Some(batch) =
            self.batch.filter(|batch| *batch != 1 && (*batch == 0 || !batch.is_multiple_of(8)))
        {
            return Err(format!("batch is {batch}; it must be 1 or a multiple of 8"));
        }
        if let Some(date) = &self.template_date {
            check_date(date).map_err(|why| format!("template_date: {why}"))?;
        }
        self.reasoning.check().map_err(|why| format!("reasoning {why}"))?;
        if !(self.shard_gb.is_finite() && self.shard_gb > 0.0) {
            return Err(format!("shard_gb is {}; it must be above 0", self.shard_gb));
        }
        check_model(&self.model)?;
        if let Some(adapter) = self.adapter.as_deref().filter(|adapter| !is_adapter(adapter)) {
            return Err(format!("adapter is {}, which holds no adapter_config.json", adapter.display()));
        }
        self.training.validate()
    }

    fn build(&self, cx: &BuildContext) -> std::result::Result<Arc<dyn Policy>, Cause> {
        let run_seed = cx.config.get("seed").and_then(serde_json::Value::as_u64).unwrap_or_default();
        Ok(Arc::new(self.load_with_seed(run_seed)?))
    }
}

isr_config::register!(Policy "torch" => TorchPolicyConfig, example = "model = \"path/to/checkpoint\"\n");

/// Loaded video LMM. Dropping it stops the engine's thread and blocks until the operation under way has finished.
pub struct TorchPolicy {
    engine: EngineHandle,
    /// Whether processes train together.
    in_group: bool,
}

impl TorchPolicy {
    /// Computes logits at every position of a prompt, for comparison with other implementations.
    ///
    /// # Errors
    /// A prompt that exceeds the context.
    pub async fn logits(&self, prompt: Prompt) -> Result<Logits> {
        self.engine.call(|reply| Command::Logits(prompt, reply)).await
    }
}

#[async_trait]
impl Policy for TorchPolicy {
    fn fingerprint(&self) -> Fingerprint {
        // This fails only if the engine's thread has died, and then every other call reports it.
        self.engine.fingerprint().unwrap_or_else(|error| Fingerprint::of(error.to_string()))
    }

    fn try_fingerprint(&self) -> Result<Fingerprint, ComponentError> {
        Ok(self.engine.fingerprint()?)
    }

    /// Counts computations of all engines and encoders of this process.
    fn busy_seconds(&self) -> Option<f64> {
        Some(device_clock::seconds())
    }

    /// Shares the policy's tower while that is frozen or has an adapter. Training the tower's own weights gives the
    /// encoder a copy of the original ones.
    fn encoder(&self) -> Option<Arc<dyn VideoEncoder>> {
        match self.engine.encoder() {
            Ok(encoder) => encoder.map(|encoder| encoder as Arc<dyn VideoEncoder>),
            Err(error) => {
                tracing::error!(%error, "the policy's encoder is not available");
                None
            }
        }
    }

    fn trains_in_parallel(&self) -> bool {
        self.in_group
    }

    fn reasoning_format(&self) -> Option<ReasoningFormat> {
        self.engine.reasoning().cloned()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        Ok(self.engine.call(|reply| Command::Generate(request, None, reply)).await?)
    }

    async fn generate_streaming(
        &self,
        request: GenerateRequest,
        progress: ProgressSender,
    ) -> Result<Vec<Response>, ComponentError> {
        Ok(self.engine.call(|reply| Command::Generate(request, Some(progress), reply)).await?)
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        Ok(self.engine.call(|reply| Command::Score(request, reply)).await?)
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        // A sequence that exceeds the context fails the whole batch, so it is not one sample's bad input.
        let outcome = self.engine.call(|reply| Command::Train(step, objective, reply)).await;
        outcome.map_err(ComponentError::failed)
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        let dir = dir.to_owned();
        Ok(self.engine.call(|reply| Command::Save(dir, what, reply)).await?)
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        let dir = dir.to_owned();
        Ok(self.engine.call(|reply| Command::Load(dir, what, reply)).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The config of a run is compared with the one that it was begun with, perhaps before a key was there.
    #[test]
    fn newer_keys_are_not_written_at_their_defaults() {
        let written = serde_json::to_value(TorchPolicyConfig::new("model")).unwrap();
        for key in [
            "adapter",
            "batch",
            "decoding",
            "precision",
            "prefix_cache_mb",
            "quantization",
            "reasoning",
            "template_date",
        ] {
            assert_eq!(written.get(key), None, "{key}");
        }
        for key in ["optimizer", "optimizer_state", "parallel"] {
            assert_eq!(written["training"].get(key), None, "{key}");
        }
    }
}
