//! Video LMM: vision tower, projector and decoder, each described by the checkpoint's config.

pub(crate) mod activation;
mod attention_kernels;
mod attention_mode;
pub(crate) mod config;
pub(crate) mod decoder;
pub(crate) mod expected;
pub(crate) mod experts;
pub(crate) mod experts_config;
mod external_tower;
pub(crate) mod families;
pub(crate) mod fused_step;
pub(crate) mod gradient_checkpointing;
pub(crate) mod group_cache;
pub(crate) mod kv_cache;
pub(crate) mod layers;
pub(crate) mod linear_weight;
mod mlp;
pub(crate) mod names;
pub(crate) mod nf4;
mod nf4_files;
pub(crate) mod output_layer;
pub(crate) mod pixel_values;
pub(crate) mod positions;
pub(crate) mod preprocess;
pub(crate) mod product;
pub(crate) mod projector;
pub(crate) mod prompt_layout;
mod rotary;
pub(crate) mod section;
mod sequence;
pub(crate) mod tensor_layout;
#[cfg(test)]
mod tests;
pub(crate) mod text_config;
pub(crate) mod vision;
pub(crate) mod weights;

use std::path::Path;

use isr_api::Frames;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::lora::Adapter;
pub(crate) use config::ModelConfig;
use decoder::Decoder;
use fused_step::FusedStep;
use pixel_values::PixelValues;
use preprocess::ImageProcessor;
use projector::Projector;
pub(crate) use sequence::{Sequence, Slot};
use tensor_layout::TensorLayout;
pub(crate) use vision::Tower;
use weights::Weights;

/// Arrangement of decoding steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decoding {
    /// Each request attends in a call of its own, so that results do not depend on the batch.
    Reproducible,
    /// All sequences attend together.
    Fused,
}

/// Quantisation of the decoder's linear layers when a checkpoint is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// NF4 (QLoRA, arXiv 2305.14314) in blocks of 64 as bitsandbytes has it: 4.5 bits a weight.
    Nf4,
    /// The same with 8-bit magnitudes of blocks (double quantisation): 4.13 bits a weight.
    Nf4Double,
}

/// Video LMM with its weights.
pub(crate) struct VideoLmm {
    pub(crate) config: ModelConfig,
    pub(crate) weights: Weights,
    pub(crate) tower: Tower,
    pub(crate) decoder: Decoder,
    /// Decoding step of all sequences at once; `None` where they are decoded reproducibly.
    pub(crate) fused: Option<FusedStep>,
    embedding: Tensor,
    /// `None` if the tower projects to the decoder's width.
    projector: Option<Projector>,
    pub(crate) device: Device,
    pub(crate) kind: Kind,
}

impl VideoLmm {
    /// Loads a checkpoint folder that is decoded reproducibly.
    #[cfg(test)]
    pub(crate) fn load(
        folder: &Path,
        adapter: Option<Adapter>,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        Self::load_for(folder, adapter, kind, device, Decoding::Reproducible, None)
    }

    /// Loads a checkpoint folder, with an optional adapter.
    ///
    /// # Errors
    /// Missing, unexpected or misshapen tensors (listed), an unsupported config, or an adapter that does not fit.
    pub(crate) fn load_for(
        folder: &Path,
        adapter: Option<Adapter>,
        kind: Kind,
        device: Device,
        decoding: Decoding,
        quantization: Option<Quantization>,
    ) -> Result<Self> {
        let mut config = families::read_config(folder)?;
        output_layer::settle(folder, &mut config)?;
        let mut weights = layout_of(folder, &config, |layout| {
            Weights::read(folder, layout, &|_| true, kind, device, quantization)
        })?;
        if let Some(adapter) = adapter {
            weights.adapt(adapter)?;
        }
        if decoding == Decoding::Fused {
            FusedStep::arrange(&mut weights, &config.text)?;
        }
        let decoder = Decoder::new(&weights, &config.text, kind, device)?;
        let fused = match decoding {
            Decoding::Fused => Some(FusedStep::new(&weights, &config.text, kind, device)?),
            Decoding::Reproducible => None,
        };
        let tower = Tower::new(&weights, &config)?;
        let projector = config.vision.projector();
        let projector = projector.map(|config| Projector::new(&weights, &config)).transpose()?;
        weights.check_adapter()?;
        Ok(Self {
            projector,
            embedding: weights.get("language_model.model.embed_tokens.weight")?,
            tower,
            decoder,
            fused,
            weights,
            config,
            device,
            kind,
        })
    }

    /// Loads the values of all weights, or of the adapter if there is one, from a checkpoint of the same shapes.
    pub(crate) fn reload(&mut self, folder: &Path) -> Result<()> {
        if let Some(adapter) = self.weights.adapter() {
            return adapter.reload(folder);
        }
        if self.weights.is_quantised() {
            let reason = "cannot be loaded into weights in 4 bits; load it as policy.model";
            return Err(TorchError::checkpoint(folder, reason));
        }
        if self.config.text.tie_word_embeddings && output_layer::has_own(folder, self.config.names)? {
            let reason = "has an output layer (lm_head.weight) that differs from its embedding, but that of the loaded \
                          model is tied to it; load this folder as policy.model";
            return Err(TorchError::checkpoint(folder, reason));
        }
        layout_of(folder, &self.config, |layout| self.weights.reload(folder, layout))
    }

    /// Returns whether loading a checkpoint folder would change the tower.
    pub(crate) fn would_change_tower(&self, folder: &Path) -> Result<bool> {
        let tower = self.config.tower();
        if let Some(adapter) = self.weights.adapter() {
            return Ok(adapter.saves_under(tower));
        }
        Ok(!layout_of(folder, &self.config, |layout| self.weights.equal_in(folder, layout, tower))?)
    }

    /// Returns the bytes of one token's keys and values in all layers.
    pub(crate) fn token_bytes(&self) -> u64 {
        let text = &self.config.text;
        let width = self.kind.elt_size_in_bytes() as u64;
        2 * (text.num_hidden_layers * text.kv_heads() * text.head_dim()) as u64 * width
    }

    /// Computes tower features `[steps, tokens, width]` of one video, with a graph if the tower is trained.
    pub(crate) fn encode(&self, frames: &Frames) -> Result<Tensor> {
        encode(&self.tower, &self.config.processor, frames, (self.kind, self.device))
    }

    /// Computes tower features of several videos; see [`encode`](Self::encode).
    pub(crate) fn encode_all(&self, videos: &[&Frames]) -> Result<Vec<Tensor>> {
        let prepare = |frames: &&Frames| prepare(&self.config.processor, frames, (self.kind, self.device));
        self.tower.forward_all(&videos.iter().map(prepare).collect::<Result<Vec<_>>>()?)
    }

    /// Projects tower features `[features, width]` to the decoder's embedding space.
    fn project(&self, features: &Tensor) -> Result<Tensor> {
        match &self.projector {
            Some(projector) => projector.forward(features),
            None => Ok(features.shallow_clone()),
        }
    }
}

/// Loads the tower of a checkpoint folder; other tensors are not read.
pub(crate) fn load_tower(
    folder: &Path,
    kind: Kind,
    device: Device,
) -> Result<(ModelConfig, Weights, Tower)> {
    let config = families::read_config(folder)?;
    let of_tower = |name: &str| name.starts_with(config.tower());
    let weights =
        layout_of(folder, &config, |layout| Weights::read(folder, layout, &of_tower, kind, device, None))?;
    let tower = Tower::new(&weights, &config)?;
    Ok((config, weights, tower))
}

/// Preprocesses and encodes one video, `[steps, tokens, width]`.
pub(crate) fn encode(
    tower: &Tower,
    processor: &ImageProcessor,
    frames: &Frames,
    place: (Kind, Device),
) -> Result<Tensor> {
    tower.forward(&prepare(processor, frames, place)?)
}

fn prepare(
    processor: &ImageProcessor,
    frames: &Frames,
    (kind, device): (Kind, Device),
) -> Result<PixelValues> {
    let mut video = processor.process(frames)?;
    video.pixels = video.pixels.f_to_device(device)?.f_to_kind(kind)?;
    Ok(video)
}

/// Returns whether a tensor is a buffer that older versions of transformers saved, and that is computed anew: rotary
/// frequencies and tables, position indices, attention masks.
fn is_buffer(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(
        last,
        "position_ids"
            | "inv_freq"
            | "original_inv_freq"
            | "cos_cached"
            | "sin_cached"
            | "cos_cache"
            | "sin_cache"
            | "causal_mask"
            | "masked_bias"
    )
}

/// Calls `read` with the tensor layout of a checkpoint folder.
pub(crate) fn layout_of<T>(
    folder: &Path,
    config: &ModelConfig,
    read: impl FnOnce(&TensorLayout<'_>) -> Result<T>,
) -> Result<T> {
    let tied = config.text.tie_word_embeddings;
    let ignored = |name: &str| is_buffer(name) || (tied && name == output_layer::HEAD);
    let carried = |name: &str| config.unused_prefixes.iter().any(|prefix| name.starts_with(prefix));
    let tower = config.external_tower.as_deref();
    read(&TensorLayout {
        rename: &|name| config.names.canonical(name),
        expected: expected::expected_tensors(config, expected::orientation(folder, config)?),
        ignored: &ignored,
        carried: &carried,
        tower: config.tower(),
        beside: tower.and_then(|name| external_tower::find(folder, name)),
    })
}
