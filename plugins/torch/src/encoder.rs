//! Vision tower of a checkpoint as a video encoder: the component `vision_tower`, and the encoder of a policy that
//! shares the policy's tower.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, FeatureType, Fingerprint, Frames, VideoEncoder,
    VisualFeatures,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::cpu_lock::{self, Requester};
use crate::device::{Precision, PrecisionConfig, parse_device};
use crate::error::{Result, TorchError};
use crate::model::config::VisionConfig;
use crate::model::preprocess::{ImageProcessor, Preprocess};
use crate::model::weights::Weights;
use crate::model::{ModelConfig, Tower, VideoLmm, encode, load_tower};
use crate::model_paths::{ModelPaths, check_model};
use crate::tensors::bytes_of;

/// Vision tower of a checkpoint (CLIP, LanguageBind, SigLIP, InternViT, Qwen-VL). Features are those of the layer that the
/// checkpoint's config names.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VisionTowerConfig {
    /// Checkpoint folder or hub name. Default: the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// Device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`. Default `auto`.
    #[serde(default = "default_device")]
    pub device: String,
    /// Dtype of weights, activations and features: `float32`, `bfloat16` or `auto`, which on a GPU is that of the
    /// checkpoint's weights (bfloat16 for float16), on a CPU `float32`. Default `auto`.
    #[serde(default, skip_serializing_if = "PrecisionConfig::is_auto")]
    pub precision: PrecisionConfig,
    /// Image processor: `checkpoint` (as the checkpoint's files say), `clip` (transformers' `CLIPImageProcessor`)
    /// or `llava_hound` (LanguageBind's transform). Default `checkpoint`.
    #[serde(default)]
    pub preprocess: Preprocess,
}

fn default_device() -> String {
    "auto".to_owned()
}

impl Component for VisionTowerConfig {
    type Built = Arc<dyn VideoEncoder>;

    fn validate(&self) -> std::result::Result<(), String> {
        self.model.as_deref().map_or(Ok(()), check_model)
    }

    fn build(&self, cx: &BuildContext) -> std::result::Result<Arc<dyn VideoEncoder>, Cause> {
        let model = self.model.clone().or_else(|| cx.setting("/policy/model").map(PathBuf::from));
        let model = model.ok_or("`model` is missing, and the policy has none to share")?;
        Ok(Arc::new(VisionTowerEncoder::load(&model, self)?))
    }
}

isr_config::register!(Encoder "vision_tower" => VisionTowerConfig, example = "");

/// Video encoder that runs a vision tower. Features have shape `[steps, tokens, width]`; concurrent calls run one
/// after the other, as each uses all threads of the device.
pub struct VisionTowerEncoder {
    tower: Arc<Mutex<LoadedTower>>,
    fingerprint: Fingerprint,
    device: Device,
}

/// Tower with its image processor.
struct LoadedTower {
    tower: Tower,
    processor: ImageProcessor,
    kind: Kind,
    device: Device,
}

impl VisionTowerEncoder {
    /// Loads the tower of a checkpoint; no other weights are read.
    ///
    /// # Errors
    /// A checkpoint that cannot be resolved or read, or a device that is not available.
    pub fn load(model: &Path, config: &VisionTowerConfig) -> Result<Self> {
        let device = parse_device(&config.device)?;
        let paths = ModelPaths::resolve(model, None)?;
        paths.verify(false)?;
        let precision = config.precision.choose(&paths.base, device)?;
        let kind = precision.kind();
        let (model, weights, tower) = load_tower(&paths.base, kind, device)?;
        let processor = match &model.vision {
            VisionConfig::Clip(vision) => model.processor.chosen(config.preprocess, vision.image_size),
            _ => model.processor.clone(),
        };
        let fingerprint = fingerprint(&model, &weights, &processor, precision)?;
        let tower = LoadedTower { tower, processor, kind, device };
        Ok(Self { tower: Arc::new(Mutex::new(tower)), fingerprint, device })
    }

    /// Creates the encoder of a loaded model. It shares the memory of the model's tower, without an adapter on it:
    /// features and fingerprint are those of [`load`](Self::load) from the same checkpoint.
    pub(crate) fn shared(model: &VideoLmm, precision: Precision) -> Result<Self> {
        let (config, processor) = (&model.config, model.config.processor.clone());
        let weights = model.weights.part(config.tower());
        let (kind, device) = (model.kind, model.device);
        let fingerprint = fingerprint(config, &weights, &processor, precision)?;
        let tower = LoadedTower { tower: Tower::new(&weights, config)?, processor, kind, device };
        Ok(Self { tower: Arc::new(Mutex::new(tower)), fingerprint, device })
    }

    /// Replaces the shared tower by a copy of its current weights; to be called before the model's change in place.
    pub(crate) fn unshare(&self, model: &VideoLmm) -> Result<()> {
        let weights = tch::no_grad(|| model.weights.part(model.config.tower()).copied())?;
        self.lock()?.tower = Tower::new(&weights, &model.config)?;
        Ok(())
    }

    fn lock(&self) -> Result<MutexGuard<'_, LoadedTower>> {
        lock(&self.tower)
    }
}

fn lock(tower: &Mutex<LoadedTower>) -> Result<MutexGuard<'_, LoadedTower>> {
    tower.lock().map_err(|_| TorchError::Engine("an earlier call panicked".to_owned()))
}

/// Computes the fingerprint of an encoder. The text that is hashed includes the `Debug` form of precision and vision
/// config and must not change between versions: cached features and started runs are found by it.
fn fingerprint(
    model: &ModelConfig,
    weights: &Weights,
    processor: &ImageProcessor,
    precision: Precision,
) -> Result<Fingerprint> {
    let settings = format!("{precision:?} {} {:?}", processor.identity(), model.vision);
    Ok(Fingerprint::of(format!("{settings} {}", weights.fingerprint()?)))
}

impl LoadedTower {
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
impl VideoEncoder for VisionTowerEncoder {
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    fn device_key(&self) -> String {
        format!("{:?}", self.device)
    }

    async fn encode(&self, frames: &Frames) -> std::result::Result<VisualFeatures, ComponentError> {
        let (tower, frames, device) = (Arc::clone(&self.tower), frames.clone(), self.device);
        let task = tokio::task::spawn_blocking(move || {
            let _turn = cpu_lock::acquire(device, Requester::Encoder);
            lock(&tower)?.encode(&frames)
        });
        let outcome = task.await.map_err(|error| ComponentError::Panicked(error.to_string()))?;
        let (dtype, shape, bytes) = outcome?;
        Ok(VisualFeatures { dtype, shape, bytes, encoder: self.fingerprint.clone() })
    }
}
