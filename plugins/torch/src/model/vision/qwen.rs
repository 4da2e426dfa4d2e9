//! Qwen-VL's vision transformer at native resolution: patches of two frames, rotary positions of rows and columns,
//! attention within a step of time. As transformers 5 computes it:
//! - Qwen2-VL (`Qwen2VisionTransformerPretrainedModel`): LayerNorm, approximate GELU;
//! - Qwen2.5-VL (`Qwen2_5_VisionTransformerPretrainedModel`): RMSNorm, SwiGLU, windows in most layers;
//! - Qwen3-VL (`Qwen3VLVisionModel`): LayerNorm, GELU, learned positions, DeepStack features.

use tch::{Device, Kind, Tensor};

use super::interpolate::{Taps, merged_order};
use super::merger::Merger;
use super::norm::Norm;
use super::qwen_config::{PREFIX, QwenVision};
use super::window::Windows;
use crate::error::Result;
use crate::model::layers::Linear;
use crate::model::pixel_values::PatchGrid;
use crate::model::product::{self, Mask};
use crate::model::weights::Weights;

struct Block {
    norm1: Norm,
    qkv: Linear,
    proj: Linear,
    norm2: Norm,
    /// Gate of SwiGLU (Qwen2.5-VL).
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

/// Qwen-VL tower with its mergers.
pub(crate) struct QwenTower {
    patch: Tensor,
    patch_bias: Option<Tensor>,
    positions: Option<Tensor>,
    blocks: Vec<Block>,
    merger: Merger,
    deep: Vec<Merger>,
    config: QwenVision,
}

impl QwenTower {
    /// Takes the tower's tensors from `weights`.
    pub(crate) fn new(weights: &Weights, config: &QwenVision) -> Result<Self> {
        let (rms, [up, down]) = (config.is_qwen2_5(), config.mlp_parts());
        let block = |index: i64| -> Result<Block> {
            let at = |name: &str| format!("{PREFIX}.blocks.{index}.{name}");
            let linear = |name: &str| Linear::new(weights, &at(name));
            Ok(Block {
                norm1: Norm::new(weights, &at("norm1"), rms)?,
                qkv: linear("attn.qkv")?,
                proj: linear("attn.proj")?,
                norm2: Norm::new(weights, &at("norm2"), rms)?,
                gate: rms.then(|| linear("mlp.gate_proj")).transpose()?,
                up: linear(&format!("mlp.{up}"))?,
                down: linear(&format!("mlp.{down}"))?,
            })
        };
        let parts = config.merger_parts();
        let mut mergers = config.mergers().into_iter().map(|(name, after)| {
            Merger::new(weights, &format!("{PREFIX}.{name}"), parts, rms, after, config.merged_width())
        });
        let merger = mergers.next().transpose()?;
        let merger = merger.ok_or_else(|| crate::error::TorchError::Engine("no merger".to_owned()))?;
        Ok(Self {
            patch: weights.get(&format!("{PREFIX}.patch_embed.proj.weight"))?,
            patch_bias: weights.find(&format!("{PREFIX}.patch_embed.proj.bias")),
            positions: weights.find(&format!("{PREFIX}.pos_embed.weight")),
            blocks: (0..config.depth).map(block).collect::<Result<_>>()?,
            merger,
            deep: mergers.collect::<Result<_>>()?,
            config: config.clone(),
        })
    }

    /// Computes features `[steps, tokens, out * (1 + DeepStack levels)]` from patches `[patches, values]`: the
    /// decoder's inputs, followed by the features that are added behind its first layers.
    pub(crate) fn forward(&self, patches: &Tensor, grid: PatchGrid) -> Result<Tensor> {
        let mut x = self.embed(patches, grid)?;
        let (merge, square) = (self.config.spatial_merge_size, self.config.spatial_merge_size.pow(2));
        let step = grid.height * grid.width;
        let steps = vec![step; grid.steps as usize];
        let windows = self
            .config
            .window_size
            .map(|pixels| Windows::new(grid, merge, (pixels / merge / self.config.patch_size).max(1)));
        let mut rope = self.rope(grid)?;
        let mut back = None;
        if let Some(windows) = &windows {
            let order = Tensor::f_from_slice(&windows.order)?.f_to_device(x.device())?;
            let reorder = |t: &Tensor| -> Result<Tensor> {
                let width = t.size()[1];
                Ok(t.f_reshape([-1, square, width])?.f_index_select(0, &order)?.f_reshape([-1, width])?)
            };
            (x, rope) = (reorder(&x)?, (reorder(&rope.0)?, reorder(&rope.1)?));
            back = Some(Tensor::f_from_slice(&windows.back)?.f_to_device(x.device())?);
        }
        let mut features = Vec::with_capacity(1 + self.deep.len());
        for (index, block) in self.blocks.iter().enumerate() {
            let index = index as i64;
            let runs = match &windows {
                Some(windows) if !self.config.fullatt_block_indexes.contains(&index) => &windows.lengths,
                _ => &steps,
            };
            x = self.block(block, &x, &rope, runs)?;
            if let Some(level) = self.config.deepstack_visual_indexes.iter().position(|at| *at == index) {
                features.push(self.deep[level].forward(&x)?);
            }
        }
        features.insert(0, self.merger.forward(&x)?);
        let mut features = Tensor::f_cat(&features, 1)?;
        if let Some(back) = back {
            features = features.f_index_select(0, &back)?;
        }
        let width = features.size()[1];
        Ok(features.f_view([grid.steps, step / square, width])?)
    }

    fn embed(&self, patches: &Tensor, grid: PatchGrid) -> Result<Tensor> {
        let kernel = self.patch.f_flatten(1, 4)?;
        let x = product::linear(patches, &kernel, self.patch_bias.as_ref())?;
        let Some(table) = &self.positions else {
            return Ok(x);
        };
        let side = (table.size()[0] as f64).sqrt() as i64;
        let taps = Taps::new(grid, self.config.spatial_merge_size, side);
        Ok(x.f_add(&taps.apply(table)?.f_repeat([grid.steps, 1])?)?)
    }

    /// Returns cosines and sines `[patches, head_dim]` in float32. Quarters of a head rotate with row, column, row and
    /// column.
    fn rope(&self, grid: PatchGrid) -> Result<(Tensor, Tensor)> {
        let half = self.config.head_dim() / 2;
        let theta = self.config.rope_parameters.as_ref().and_then(|rope| rope["rope_theta"].as_f64());
        let exponents = Tensor::f_arange_start_step(0, half, 2, (Kind::Float, Device::Cpu))?;
        let exponents = exponents.f_div_scalar(half as f64)?;
        let inverse = Tensor::f_pow_scalar(theta.unwrap_or(10_000.0), &exponents)?.f_reciprocal()?;
        let places: Vec<i64> = merged_order(grid, self.config.spatial_merge_size)
            .into_iter()
            .flat_map(|(row, column)| [row, column])
            .collect();
        let places = Tensor::f_from_slice(&places)?.f_view([-1, 2, 1])?.f_to_kind(Kind::Float)?;
        let angles = places.f_mul(&inverse)?.f_flatten(1, 2)?;
        let angles = Tensor::f_cat(&[&angles, &angles], 1)?.f_repeat([grid.steps, 1])?;
        let device = self.patch.device();
        Ok((angles.f_cos()?.f_to_device(device)?, angles.f_sin()?.f_to_device(device)?))
    }

    fn block(&self, block: &Block, x: &Tensor, rope: &(Tensor, Tensor), runs: &[i64]) -> Result<Tensor> {
        let attended = self.attention(block, &block.norm1.forward(x)?, rope, runs)?;
        let x = x.f_add(&attended)?;
        let normed = block.norm2.forward(&x)?;
        let act = self.config.hidden_act;
        let inner = match &block.gate {
            Some(gate) => act.forward(&gate.forward(&normed)?)?.f_mul(&block.up.forward(&normed)?)?,
            None => act.forward(&block.up.forward(&normed)?)?,
        };
        Ok(x.f_add(&block.down.forward(&inner)?)?)
    }

    /// Computes attention within runs of consecutive patches of the given lengths.
    fn attention(
        &self,
        block: &Block,
        x: &Tensor,
        rope: &(Tensor, Tensor),
        runs: &[i64],
    ) -> Result<Tensor> {
        let (count, width) = x.size2()?;
        let (heads, dim) = (self.config.num_heads, self.config.head_dim());
        let qkv = block.qkv.forward(x)?.f_view([count, 3, heads, dim])?;
        let query = rotate(&qkv.f_select(1, 0)?, rope)?;
        let key = rotate(&qkv.f_select(1, 1)?, rope)?;
        let value = qkv.f_select(1, 2)?;
        let attend = |start: i64, rows: i64, length: i64| -> Result<Tensor> {
            let cut = |t: &Tensor| -> Result<Tensor> {
                let part = t.f_narrow(0, start, rows * length)?;
                Ok(part.f_reshape([rows, length, heads, dim])?.f_transpose(1, 2)?)
            };
            let (q, k, v) = (cut(&query)?, cut(&key)?, cut(&value)?);
            let out = product::attention(&q, &k, &v, Mask::Full)?;
            Ok(out.f_transpose(1, 2)?.f_reshape([rows * length, width])?)
        };
        let mut parts = Vec::new();
        let mut start = 0;
        // Adjacent runs of one length are one batch.
        for equal in runs.chunk_by(|a, b| a == b) {
            let (rows, length) = (equal.len() as i64, equal[0]);
            parts.push(attend(start, rows, length)?);
            start += rows * length;
        }
        block.proj.forward(&Tensor::f_cat(&parts, 0)?)
    }
}

/// Applies the rotary embedding to `[patches, heads, head_dim]`, in float32 whatever the dtype.
fn rotate(x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
    let wide = x.f_to_kind(Kind::Float)?;
    let half = x.size()[2] / 2;
    let (first, second) = (wide.f_narrow(2, 0, half)?, wide.f_narrow(2, half, half)?);
    let turned = Tensor::f_cat(&[second.f_neg()?, first], 2)?;
    let (cos, sin) = (cos.f_unsqueeze(1)?, sin.f_unsqueeze(1)?);
    Ok(wide.f_mul(&cos)?.f_add(&turned.f_mul(&sin)?)?.f_to_kind(x.kind())?)
}
