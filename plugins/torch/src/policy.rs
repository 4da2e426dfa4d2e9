//! The policy plugin `llava`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_core::config::did_you_mean;
use isr_core::registry::{BuildContext, Component};
use isr_core::{
    Cause, ComponentError, Fingerprint, GenerateRequest, Policy, PreferenceObjective, ProgressSender,
    Prompt, Response, ScoreRequest, Snapshot, StepReport, TokenLogProbs, TrainStep,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::chat::Chat;
use crate::checkpoint::Checkpoint;
use crate::device::{Precision, parse_device};
use crate::engine::{Command, Engine, EngineHandle, Logits, PrefixCache};
use crate::error::Result;
use crate::hub::{self, HubError};
use crate::lora::{Adapter, is_adapter};
use crate::model::VideoLmm;
use crate::model::families::read_config;
use crate::source::Source;
use crate::train::{Trainer, TrainingConfig};

/// A video LMM from a checkpoint folder: LLaVA, Video-LLaVA, LLaVA-NeXT-Video, Qwen2.5-VL or Qwen3-VL in
/// transformers' layout, LLaVA-Hound or ISR-DPO in LLaVA's own.
///
/// `docs/families.md` says what of each is supported.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlavaConfig {
    /// The checkpoint folder, relative to the current directory; or the folder of a PEFT adapter that names
    /// its base, which is then trained on.
    pub model: PathBuf,
    /// A PEFT adapter's folder, put on `model` whatever base it names. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`. Default `auto`.
    #[serde(default = "default_device")]
    pub device: String,
    /// Type of weights and activations: `float32` or `bfloat16`. Default `float32`.
    #[serde(default)]
    pub precision: Precision,
    /// Rows of a decoding step: answers that are written at once. 1, or a multiple of 8: with those,
    /// results on a CPU do not depend on what else is being answered. Default 16.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// Memory for what was read of videos, in MiB: all that is asked about a video between two updates of the
    /// weights reads it once, as long as it is kept. Results do not depend on it. Default 2048.
    #[serde(default = "default_prefix_cache_mb")]
    pub prefix_cache_mb: usize,
    /// Threads for one operation on the CPU; 0 leaves the choice to libtorch. Default 0.
    #[serde(default)]
    pub threads: usize,
    /// Largest file of weights that a checkpoint is written in, in GB (10^9 bytes). Default 5.
    #[serde(default = "default_shard_gb")]
    pub shard_gb: f64,
    /// Compare every file with its digest in the checkpoint's `manifest.json`, if it has one. Without this,
    /// sizes are compared, and digests of files up to 16 MiB. Default false.
    #[serde(default)]
    pub verify: bool,
    /// What is trained, and how.
    #[serde(default)]
    pub training: TrainingConfig,
}

fn default_device() -> String {
    "auto".to_owned()
}

fn default_batch() -> usize {
    16
}

fn default_prefix_cache_mb() -> usize {
    2048
}

fn default_shard_gb() -> f64 {
    5.0
}

impl LlavaConfig {
    /// The defaults for a checkpoint folder.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            adapter: None,
            device: default_device(),
            precision: Precision::default(),
            batch: default_batch(),
            prefix_cache_mb: default_prefix_cache_mb(),
            threads: 0,
            shard_gb: default_shard_gb(),
            verify: false,
            training: TrainingConfig::default(),
        }
    }

    /// Loads the model on a thread of its own.
    ///
    /// # Errors
    /// Everything that is wrong with the checkpoint or the device.
    pub fn load(&self) -> Result<LlavaPolicy> {
        let config = self.clone();
        Ok(LlavaPolicy { engine: Engine::spawn(move || config.engine())? })
    }

    fn engine(&self) -> Result<Engine> {
        if self.threads > 0 {
            tch::set_num_threads(self.threads as i32);
        }
        let device = parse_device(&self.device)?;
        let source = Source::of(&self.model, self.adapter.as_deref())?;
        source.verify(self.verify)?;
        let adapter = self.adapter(&source, device)?;
        let model = VideoLmm::load(&source.base, adapter, self.precision.kind(), device)?;
        let chat = Chat::read(&source.base, &model.config)?;
        let checkpoint = Checkpoint::read(&source.base, chat.stops())?;
        let trainer = Trainer::new(self.training.clone(), &model)?;
        let identity = Fingerprint::of(format!("{:?} {}", self.precision, chat.identity()));
        let shard_bytes = (self.shard_gb * 1e9) as u64;
        let prefixes = PrefixCache::new((self.prefix_cache_mb as u64) << 20);
        Ok(Engine::new(model, chat, checkpoint, trainer, self.batch, shard_bytes, identity, prefixes))
    }

    /// The adapter that is there, or a new one where one is asked for.
    fn adapter(&self, source: &Source, device: Device) -> Result<Option<Adapter>> {
        let lora = self.training.lora.as_ref();
        let config = read_config(&source.base)?;
        match (&source.adapter, lora) {
            (Some(folder), _) => Ok(Some(Adapter::read(folder, lora, &source.base, config.names, device)?)),
            (None, Some(lora)) => {
                let parts = self.training.parts(&config);
                Ok(Some(Adapter::create(lora.clone(), &source.base, config.names, parts, device)))
            }
            (None, None) => Ok(None),
        }
    }
}

impl Component for LlavaConfig {
    type Built = Arc<dyn Policy>;

    fn validate(&self) -> std::result::Result<(), String> {
        if self.batch != 1 && (self.batch == 0 || !self.batch.is_multiple_of(8)) {
            return Err(format!("batch is {}; it must be 1 or a multiple of 8", self.batch));
        }
        if !(self.shard_gb.is_finite() && self.shard_gb > 0.0) {
            return Err(format!("shard_gb is {}; it must be above 0", self.shard_gb));
        }
        check_model(&self.model)?;
        if let Some(adapter) = self.adapter.as_deref().filter(|adapter| !is_adapter(adapter)) {
            return Err(format!("adapter is {}, which holds no adapter_config.json", adapter.display()));
        }
        self.training.validate()
    }

    fn build(&self, _: &BuildContext) -> std::result::Result<Arc<dyn Policy>, Cause> {
        Ok(Arc::new(self.load()?))
    }
}

isr_core::register!(Policy "llava" => LlavaConfig, example = "model = \"path/to/checkpoint\"\n");

/// Names a model that is neither a checkpoint or adapter folder nor one of the hub. Asks nobody.
pub(crate) fn check_model(model: &Path) -> std::result::Result<(), String> {
    let wrong = match model.exists() {
        true if model.join("config.json").exists() || is_adapter(model) => return Ok(()),
        true => "holds no config.json".to_owned(),
        false => match hub::check(&model.to_string_lossy()) {
            Ok(()) => return Ok(()),
            #[cfg(not(feature = "hub"))]
            Err(HubError::Disabled { .. }) => {
                "is no folder, and this build cannot download it from the Hugging Face hub; build with the cargo \
                 feature `hub` of isr-torch, or give the path of a copy"
                    .to_owned()
            }
            Err(HubError::NotAnId { .. }) => {
                "is no model of the hub; write hf://owner/name or hf://owner/name@revision".to_owned()
            }
            Err(_) => format!("does not exist{}", did_you_mean(model)),
        },
    };
    Err(format!("model is {}, which {wrong}", model.display()))
}

/// A loaded model. Dropping it ends the engine's thread.
pub struct LlavaPolicy {
    engine: EngineHandle,
}

impl LlavaPolicy {
    /// Logits at every position of a prompt, for comparison with other implementations.
    ///
    /// # Errors
    /// A prompt that does not fit.
    pub async fn logits(&self, prompt: Prompt) -> Result<Logits> {
        self.engine.call(|reply| Command::Logits(prompt, reply)).await
    }
}

#[async_trait]
impl Policy for LlavaPolicy {
    fn fingerprint(&self) -> Fingerprint {
        // The engine can only fail here if its thread has died; then every other call says so.
        self.engine.fingerprint().unwrap_or_else(|error| Fingerprint::of(error.to_string()))
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
        // A sequence that does not fit is no longer one sample's matter: its batch is lost.
        let outcome = self.engine.call(|reply| Command::Train(step, objective, reply)).await;
        outcome.map_err(ComponentError::failed)
    }

    async fn save(&self, dir: &Path, what: Snapshot) -> Result<(), ComponentError> {
        let dir = dir.to_owned();
        Ok(self.engine.call(|reply| Command::Save(dir, what, reply)).await?)
    }

    async fn load(&self, dir: &Path, what: Snapshot) -> Result<(), ComponentError> {
        let dir = dir.to_owned();
        Ok(self.engine.call(|reply| Command::Load(dir, what, reply)).await?)
    }
}
