//! The policy plugin `llava`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_core::config::did_you_mean;
use isr_core::registry::{BuildContext, Component};
use isr_core::{
    Cause, ComponentError, Fingerprint, GenerateRequest, Policy, PreferenceObjective, Prompt, Response,
    ScoreRequest, Snapshot, StepReport, TokenLogProbs, TrainStep,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::chat::Chat;
use crate::checkpoint::Checkpoint;
use crate::device::{Precision, parse_device};
use crate::engine::{Command, Engine, EngineHandle, Logits};
use crate::error::Result;
use crate::model::VideoLmm;
use crate::train::{Trainer, TrainingConfig};

/// A LLaVA-form video LMM (CLIP tower, projector, Llama decoder) from a checkpoint folder in the Hugging
/// Face layout of `LlavaForConditionalGeneration` or `VideoLlavaForConditionalGeneration`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlavaConfig {
    /// The checkpoint folder; relative to the current directory.
    pub model: PathBuf,
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
    /// Threads for one operation on the CPU; 0 leaves the choice to libtorch. Default 0.
    #[serde(default)]
    pub threads: usize,
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

impl LlavaConfig {
    /// The defaults for a checkpoint folder.
    pub fn new(model: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            device: default_device(),
            precision: Precision::default(),
            batch: default_batch(),
            threads: 0,
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
        let model = VideoLmm::load(&self.model, self.precision.kind(), device)?;
        let chat = Chat::read(&self.model, &model.config)?;
        let checkpoint = Checkpoint::read(&self.model, chat.stops())?;
        let trainer = Trainer::new(self.training.clone(), &model)?;
        let identity = Fingerprint::of(format!("{:?} {}", self.precision, chat.identity()));
        Ok(Engine::new(model, chat, checkpoint, trainer, self.batch, identity))
    }
}

impl Component for LlavaConfig {
    type Built = Arc<dyn Policy>;

    fn validate(&self) -> std::result::Result<(), String> {
        if self.batch != 1 && (self.batch == 0 || !self.batch.is_multiple_of(8)) {
            return Err(format!("batch is {}; it must be 1 or a multiple of 8", self.batch));
        }
        check_model(&self.model)?;
        self.training.validate()
    }

    fn build(&self, _: &BuildContext) -> std::result::Result<Arc<dyn Policy>, Cause> {
        Ok(Arc::new(self.load()?))
    }
}

isr_core::register!(Policy "llava" => LlavaConfig, example = "model = \"path/to/checkpoint\"\n");

/// Names a checkpoint folder that is none.
pub(crate) fn check_model(model: &Path) -> std::result::Result<(), String> {
    if model.join("config.json").exists() {
        return Ok(());
    }
    let (wrong, like) = match model.exists() {
        true => ("holds no config.json", String::new()),
        false => ("does not exist", did_you_mean(model)),
    };
    Err(format!("model is {}, which {wrong}{like}", model.display()))
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
        Ok(self.engine.call(|reply| Command::Generate(request, reply)).await?)
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
