//! The encoder plugin `clip`: the tower of a LLaVA-form checkpoint.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_core::registry::{BuildContext, Component};
use isr_core::{Cause, ComponentError, FeatureType, Fingerprint, Frames, VideoEncoder, VisualFeatures};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::device::{Precision, parse_device};
use crate::error::{Result, TorchError};
use crate::model::preprocess::{Preprocess, pixels};
use crate::model::weights::{Weights, bytes_of};
use crate::model::{ModelConfig, VisionTower, load_tower};
use crate::policy::check_model;

/// The CLIP vision tower of a LLaVA-form checkpoint; features of the layer that its config names.
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
    /// How frames become pixels: `clip` (transformers' processor) or `llava_hound` (LanguageBind's
    /// transform). Default `clip`.
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
    tower: Arc<Mutex<Tower>>,
    fingerprint: Fingerprint,
}

struct Tower {
    tower: VisionTower,
    config: ModelConfig,
    preprocess: Preprocess,
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
        let (model, weights, tower) = load_tower(model, kind, device)?;
        let fingerprint = fingerprint(&model, &weights, config)?;
        let tower = Tower { tower, config: model, preprocess: config.preprocess, kind, device };
        Ok(Self { tower: Arc::new(Mutex::new(tower)), fingerprint })
    }
}

fn fingerprint(model: &ModelConfig, weights: &Weights, config: &ClipConfig) -> Result<Fingerprint> {
    let settings = (model.feature_layer, model.keeps_class_token, config.precision, config.preprocess);
    Ok(Fingerprint::of(format!("{settings:?} {:?} {}", model.vision, weights.fingerprint()?)))
}

impl Tower {
    fn encode(&self, frames: &Frames) -> Result<(FeatureType, [usize; 3], Vec<u8>)> {
        tch::no_grad(|| {
            let pixels = pixels(frames, self.config.vision.image_size, self.preprocess)?;
            let pixels = pixels.f_to_device(self.device)?.f_to_kind(self.kind)?;
            let features = self.tower.forward(&pixels)?;
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

    async fn encode(&self, frames: &Frames) -> std::result::Result<VisualFeatures, ComponentError> {
        let (tower, frames) = (Arc::clone(&self.tower), frames.clone());
        let task = tokio::task::spawn_blocking(move || {
            let tower =
                tower.lock().map_err(|_| TorchError::Engine("an earlier call panicked".to_owned()))?;
            tower.encode(&frames)
        });
        let outcome = task.await.map_err(|error| ComponentError::Panicked(error.to_string()))?;
        let (dtype, shape, bytes) = outcome?;
        Ok(VisualFeatures { dtype, shape, bytes, encoder: self.fingerprint.clone() })
    }
}
