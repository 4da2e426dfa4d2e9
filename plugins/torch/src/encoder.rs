//! The encoder plugin `clip`: the vision tower of a checkpoint, whatever its family.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_core::registry::{BuildContext, Component};
use isr_core::{Cause, ComponentError, FeatureType, Fingerprint, Frames, VideoEncoder, VisualFeatures};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::cpu_lock::{self, Requester};
use crate::device::{Precision, parse_device};
use crate::error::{Result, TorchError};
use crate::model::config::VisionConfig;
use crate::model::preprocess::{ImageProcessor, Preprocess};
use crate::model::weights::Weights;
use crate::model::{ModelConfig, Tower, encode, load_tower};
use crate::policy::check_model;
use crate::source::Source;
use crate::tensors::bytes_of;

/// The vision tower of a checkpoint (CLIP, LanguageBind, Qwen-VL); features of the layer that its config
/// names.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClipConfig {
    /// The checkpoint folder. Default: the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`. Default `auto`.
    #[serde(default = "default_device")]
    pub device: String,
    /// Type of weights, activations and features: `float32` or `bfloat16`. Default `float32`.
    #[serde(default)]
    pub precision: Precision,
    /// How frames become pixels: `checkpoint` (as the checkpoint's files say), `clip` (transformers'
    /// processor) or `llava_hound` (LanguageBind's transform). Default `checkpoint`.
    #[serde(default)]
    pub preprocess: Preprocess,
}

fn default_device() -> String {
    "auto".to_owned()
}

impl Component for ClipConfig {
    type Built = Arc<dyn VideoEncoder>;

    fn validate(&self) -> std::result::Result<(), String> {
        self.model.as_deref().map_or(Ok(()), check_model)
    }

    fn build(&self, cx: &BuildContext) -> std::result::Result<Arc<dyn VideoEncoder>, Cause> {
        let model = self.model.clone().or_else(|| cx.setting("/policy/model").map(PathBuf::from));
        let model = model.ok_or("`model` is missing, and the policy has none to share")?;
        Ok(Arc::new(ClipEncoder::load(&model, self)?))
    }
}

isr_core::register!(Encoder "clip" => ClipConfig, example = "");

/// A loaded tower. Calls are served one after the other: each uses all threads of the device.
pub struct ClipEncoder {
    tower: Arc<Mutex<Loaded>>,
    fingerprint: Fingerprint,
    device: Device,
}

struct Loaded {
    tower: Tower,
    processor: ImageProcessor,
    kind: Kind,
    device: Device,
}

impl ClipEncoder {
    /// Loads the tower of a checkpoint folder.
    ///
    /// # Errors
    /// What is wrong with the checkpoint or the device.
    pub fn load(model: &std::path::Path, config: &ClipConfig) -> Result<Self> {
        let (kind, device) = (config.precision.kind(), parse_device(&config.device)?);
        let source = Source::of(model, None)?;
        source.verify(false)?;
        let (model, weights, tower) = load_tower(&source.base, kind, device)?;
        let processor = match &model.vision {
            VisionConfig::Clip(vision) => model.processor.chosen(config.preprocess, vision.image_size),
            VisionConfig::Qwen(_) => model.processor.clone(),
        };
        let fingerprint = fingerprint(&model, &weights, &processor, config)?;
        let tower = Loaded { tower, processor, kind, device };
        Ok(Self { tower: Arc::new(Mutex::new(tower)), fingerprint, device })
    }
}

fn fingerprint(
    model: &ModelConfig,
    weights: &Weights,
    processor: &ImageProcessor,
    config: &ClipConfig,
) -> Result<Fingerprint> {
    let settings = format!("{:?} {} {:?}", config.precision, processor.identity(), model.vision);
    Ok(Fingerprint::of(format!("{settings} {}", weights.fingerprint()?)))
}

impl Loaded {
    fn encode(&self, frames: &Frames) -> Result<(FeatureType, [usize; 3], Vec<u8>)> {
        tch::no_grad(|| {
            let features = encode(&self.tower, &self.processor, frames, (self.kind, self.device))?;
            let (count, tokens, dim) = features.size3()?;
            let dtype = if self.kind == Kind::BFloat16 { FeatureType::Bf16 } else { FeatureType::F32 };
            Ok((dtype, [count, tokens, dim].map(|size| size as usize), bytes_of(&features)?))
        })
    }
}

#[async_trait]
impl VideoEncoder for ClipEncoder {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    fn computed_on(&self) -> String {
        format!("{:?}", self.device)
    }

    async fn encode(&self, frames: &Frames) -> std::result::Result<VisualFeatures, ComponentError> {
        let (tower, frames, device) = (Arc::clone(&self.tower), frames.clone(), self.device);
        let task = tokio::task::spawn_blocking(move || {
            let _lock = cpu_lock::acquire(device, Requester::Encoder);
            let tower =
                tower.lock().map_err(|_| TorchError::Engine("an earlier call panicked".to_owned()))?;
            tower.encode(&frames)
        });
        let outcome = task.await.map_err(|error| ComponentError::Panicked(error.to_string()))?;
        let (dtype, shape, bytes) = outcome?;
        Ok(VisualFeatures { dtype, shape, bytes, encoder: self.fingerprint.clone() })
    }
}
