//! A LLaVA-form video LMM (arXiv 2304.08485, 2311.10122): vision tower, projector, decoder.

pub(crate) mod config;
pub(crate) mod decoder;
pub(crate) mod expected;
pub(crate) mod kv_cache;
pub(crate) mod preprocess;
mod tower;
pub(crate) mod weights;

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};
pub(crate) use config::ModelConfig;
use decoder::Decoder;
pub(crate) use tower::VisionTower;
use weights::Weights;

/// One position of a rendered prompt or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A token.
    Token(u32),
    /// Visual feature `.0` of the sequence's videos, counted over all of them.
    Visual(usize),
}

/// One sequence for the decoder: slots, and the visual features that they refer to.
pub(crate) struct Sequence<'a> {
    /// What stands at each position.
    pub(crate) slots: &'a [Slot],
    /// Tower features `[features, dim]` of the sequence's videos; `None` without a video.
    pub(crate) features: Option<&'a Tensor>,
}

/// The model, its weights included.
pub(crate) struct VideoLmm {
    pub(crate) config: ModelConfig,
    pub(crate) weights: Weights,
    pub(crate) tower: VisionTower,
    pub(crate) decoder: Decoder,
    embedding: Tensor,
    projector: [(Tensor, Tensor); 2],
    pub(crate) device: Device,
    pub(crate) kind: Kind,
}

impl VideoLmm {
    /// Loads a checkpoint folder.
    ///
    /// # Errors
    /// Missing, extra or misshapen tensors, listed; an unsupported config.
    pub(crate) fn load(folder: &Path, kind: Kind, device: Device) -> Result<Self> {
        let config = ModelConfig::read(folder)?;
        let weights = read_checked(folder, &config, kind, device)?;
        let decoder = Decoder::new(&weights, &config.text, kind, device)?;
        let tower = build_tower(&weights, &config)?;
        let linear = |name: &str| -> Result<(Tensor, Tensor)> {
            let at = |part: &str| weights.get(&format!("multi_modal_projector.{name}.{part}"));
            Ok((at("weight")?, at("bias")?))
        };
        Ok(Self {
            embedding: weights.get("language_model.model.embed_tokens.weight")?,
            projector: [linear("linear_1")?, linear("linear_2")?],
            tower,
            decoder,
            weights,
            config,
            device,
            kind,
        })
    }

    /// Replaces the values of all weights by those of a checkpoint of the same shape.
    pub(crate) fn reload(&mut self, folder: &Path) -> Result<()> {
        let weights = read_checked(folder, &self.config, self.kind, self.device)?;
        self.weights.copy_from(&weights)
    }

    /// Projects tower features `[features, dim]` into the decoder's space: linear, GELU, linear.
    pub(crate) fn project(&self, features: &Tensor) -> Result<Tensor> {
        let [(w1, b1), (w2, b2)] = &self.projector;
        Ok(features.f_linear(w1, Some(b1))?.f_gelu("none")?.f_linear(w2, Some(b2))?)
    }

    /// Embeddings `[sequences, longest, hidden]`, padded at the end with zeros.
    ///
    /// One lookup and one projection for the whole batch, gathered into place.
    pub(crate) fn embed(&self, batch: &[Sequence<'_>]) -> Result<Tensor> {
        let longest = batch.iter().map(|sequence| sequence.slots.len()).max().unwrap_or(0);
        let tokens: Vec<i64> = batch
            .iter()
            .flat_map(|sequence| sequence.slots)
            .filter_map(|slot| if let Slot::Token(id) = slot { Some(i64::from(*id)) } else { None })
            .collect();
        let index = gather_index(batch, tokens.len(), longest)?;
        let ids = Tensor::f_from_slice(&tokens)?.f_to_device(self.device)?;
        let mut rows = vec![Tensor::f_embedding(&self.embedding, &ids, -1, false, false)?];
        let features: Vec<&Tensor> = batch.iter().filter_map(|sequence| sequence.features).collect();
        if !features.is_empty() {
            rows.push(self.project(&Tensor::f_cat(&features, 0)?)?);
        }
        rows.push(Tensor::f_zeros([1, self.config.text.hidden_size], (self.kind, self.device))?);
        let index = Tensor::f_from_slice(&index)?.f_to_device(self.device)?;
        let gathered = Tensor::f_cat(&rows, 0)?.f_index_select(0, &index)?;
        Ok(gathered.f_view([batch.len() as i64, longest as i64, self.config.text.hidden_size])?)
    }

    /// Embeddings `[tokens, 1, hidden]` of one token of each of several sequences.
    pub(crate) fn embed_tokens(&self, ids: &[i64]) -> Result<Tensor> {
        let ids = Tensor::f_from_slice(ids)?.f_to_device(self.device)?.f_unsqueeze(1)?;
        Ok(Tensor::f_embedding(&self.embedding, &ids, -1, false, false)?)
    }

    /// `0..length` from `start`, on the model's device.
    pub(crate) fn positions(&self, start: i64, length: i64) -> Result<Tensor> {
        Ok(Tensor::f_arange_start(start, start + length, (Kind::Int64, self.device))?)
    }
}

/// A tower alone, for the encoder.
pub(crate) fn load_tower(
    folder: &Path,
    kind: Kind,
    device: Device,
) -> Result<(ModelConfig, Weights, VisionTower)> {
    let config = ModelConfig::read(folder)?;
    let weights = read_checked(folder, &config, kind, device)?;
    let weights = weights.only(|name| name.starts_with(config.family.tower()));
    let tower = build_tower(&weights, &config)?;
    Ok((config, weights, tower))
}

fn build_tower(weights: &Weights, config: &ModelConfig) -> Result<VisionTower> {
    let prefix = config.family.tower();
    VisionTower::new(weights, prefix, &config.vision, config.feature_layer, config.keeps_class_token)
}

fn read_checked(folder: &Path, config: &ModelConfig, kind: Kind, device: Device) -> Result<Weights> {
    let mut weights = Weights::read(folder, kind, device)?;
    let tied = config.text.tie_word_embeddings;
    // Buffers that older transformers wrote, and the copy of a tied output layer.
    let ignored = |name: &str| {
        name.ends_with("position_ids")
            || name.ends_with("rotary_emb.inv_freq")
            || (tied && name == "language_model.lm_head.weight")
    };
    weights.check(folder, &expected::expected_tensors(config), ignored)?;
    Ok(weights)
}

/// Where each position of the padded batch finds its row in [tokens, visual features, zero].
fn gather_index(batch: &[Sequence<'_>], tokens: usize, longest: usize) -> Result<Vec<i64>> {
    let visual: usize = batch.iter().map(feature_count).sum();
    let (mut token, mut first_feature) = (0, tokens);
    let mut index = Vec::with_capacity(batch.len() * longest);
    for sequence in batch {
        for slot in sequence.slots {
            match *slot {
                Slot::Token(_) => {
                    index.push(token as i64);
                    token += 1;
                }
                Slot::Visual(feature) if feature < feature_count(sequence) => {
                    index.push((first_feature + feature) as i64);
                }
                Slot::Visual(feature) => {
                    return Err(TorchError::Prompt(format!("the prompt has no visual feature {feature}")));
                }
            }
        }
        first_feature += feature_count(sequence);
        index.extend(std::iter::repeat_n((tokens + visual) as i64, longest - sequence.slots.len()));
    }
    Ok(index)
}

fn feature_count(sequence: &Sequence<'_>) -> usize {
    sequence.features.map_or(0, |features| features.size()[0] as usize)
}
