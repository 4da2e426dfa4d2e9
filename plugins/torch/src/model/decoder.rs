//! A decoder of the Llama form (arXiv 2302.13971): RMSNorm, rotary embeddings, grouped-query attention,
//! SwiGLU, as `LlamaForCausalLM` in transformers computes it; with what its config asks for beside:
//! biases (Qwen2), a norm of queries and keys (Qwen3), positions on three axes (Qwen-VL's M-RoPE).

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::activation::Activation;
use super::kv_cache::{KvCache, Parts, Prefix};
use super::layers::{Linear, RmsNorm};
use super::text_config::TextConfig;
use super::weights::Weights;
use crate::error::{Result, TorchError};

/// Hidden states for which the head's product is taken the other way round: with few columns, a CPU reads
/// the head at twice to four times the speed (512 x 32,000 in float32: 9 ms for 34 at 8 rows).
const FEW_ROWS: i64 = 16;

struct Layer {
    input_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    /// Of queries and keys, head by head.
    head_norms: Option<[RmsNorm; 2]>,
    post_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// The decoder without its embedding: hidden states in, hidden states out.
pub(crate) struct Decoder {
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Tensor,
    cos: Tensor,
    sin: Tensor,
    /// Which axis turns each element of a head; `None` where positions have one axis.
    axes: Option<Tensor>,
    activation: Activation,
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
}

/// What a forward pass reads.
pub(crate) struct Inputs {
    /// Embeddings `[batch, length, hidden]`.
    pub(crate) embeddings: Tensor,
    /// Positions `[3, batch, length]`: time, height, width.
    pub(crate) positions: Tensor,
    /// `[batch, length, hidden]` each, added behind the first layers (DeepStack, arXiv 2406.04334).
    pub(crate) deep: Vec<Tensor>,
}

/// Tokens of one sequence that stand side by side: a trunk, and branches behind it. Each token sees itself
/// and those before it, of the trunk and of its own branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Tokens of the trunk.
    pub(crate) trunk: i64,
    /// Tokens of each branch.
    pub(crate) branches: Vec<i64>,
}

/// How the tokens of a forward pass attend.
pub(crate) enum Attend<'a> {
    /// Whole sequences side by side in one row; nothing is kept.
    Trees(&'a [Tree]),
    /// One sequence, after what its cache holds; keys and values are added to the cache.
    Extend(&'a mut KvCache),
    /// One token of each of several sequences, each after its own cache. Rows past the caches are
    /// padding: they are computed and mean nothing.
    Step(&'a mut [&'a mut KvCache]),
}

impl Decoder {
    pub(crate) fn new(weights: &Weights, config: &TextConfig, kind: Kind, device: Device) -> Result<Self> {
        let layer = |index: i64| -> Result<Layer> {
            let at = |name: &str| format!("language_model.model.layers.{index}.{name}");
            let linear = |name: &str| Linear::new(weights, &at(name));
            let norm = |name: &str| RmsNorm::new(weights, &at(name), config.rms_norm_eps);
            Ok(Layer {
                input_norm: norm("input_layernorm")?,
                query: linear("self_attn.q_proj")?,
                key: linear("self_attn.k_proj")?,
                value: linear("self_attn.v_proj")?,
                out: linear("self_attn.o_proj")?,
                head_norms: match config.has_qk_norm() {
                    true => Some([norm("self_attn.q_norm")?, norm("self_attn.k_norm")?]),
                    false => None,
                },
                post_norm: norm("post_attention_layernorm")?,
                gate: linear("mlp.gate_proj")?,
                up: linear("mlp.up_proj")?,
                down: linear("mlp.down_proj")?,
            })
        };
        let head = match config.tie_word_embeddings {
            true => weights.get("language_model.model.embed_tokens.weight")?,
            false => weights.get("language_model.lm_head.weight")?,
        };
        let (cos, sin) = rotary_tables(config, kind, device)?;
        let axes = config.axes().map_err(TorchError::Engine)?;
        let axes = axes.map(|axes| Tensor::f_from_slice(&axes)?.f_to_device(device)).transpose()?;
        Ok(Self {
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: RmsNorm::new(weights, "language_model.model.norm", config.rms_norm_eps)?,
            head,
            cos,
            sin,
            axes,
            activation: config.hidden_act,
            heads: config.num_attention_heads,
            kv_heads: config.kv_heads(),
            head_dim: config.head_dim(),
        })
    }

    /// A cache for at most `capacity` tokens behind a prefix.
    pub(crate) fn cache(&self, prefix: Option<Rc<Prefix>>, capacity: i64) -> Result<KvCache> {
        let shape = [1, self.kv_heads, capacity, self.head_dim];
        KvCache::new(prefix, self.layers.len(), &shape, (self.head.kind(), self.head.device()))
    }

    /// Final hidden states `[batch, length, hidden]`.
    pub(crate) fn forward(&self, inputs: &Inputs, mut attend: Attend<'_>) -> Result<Tensor> {
        let rope = self.rope(&inputs.positions)?;
        let mut x = inputs.embeddings.shallow_clone();
        for index in 0..self.layers.len() {
            x = self.layer(index, &x, &rope, &mut attend)?;
            if let Some(deep) = inputs.deep.get(index) {
                x = x.f_add(deep)?;
            }
        }
        self.norm.forward(&x)
    }

    /// How many layers there are.
    pub(super) fn depth(&self) -> usize {
        self.layers.len()
    }

    /// One layer's output for hidden states `[batch, length, hidden]`.
    pub(super) fn layer(
        &self,
        index: usize,
        x: &Tensor,
        rope: &(Tensor, Tensor),
        attend: &mut Attend<'_>,
    ) -> Result<Tensor> {
        let layer = &self.layers[index];
        let normed = layer.input_norm.forward(x)?;
        let x = x.f_add(&self.attention(layer, index, &normed, rope, attend)?)?;
        let normed = layer.post_norm.forward(&x)?;
        let gate = self.activation.forward(&layer.gate.forward(&normed)?)?;
        let up = layer.up.forward(&normed)?;
        Ok(x.f_add(&layer.down.forward(&gate.f_mul(&up)?)?)?)
    }

    /// The normalisation behind the last layer.
    pub(super) fn last_norm(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(x)
    }

    /// Logits in float32 of hidden states `[.., hidden]`.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let mut shape = hidden.size();
        let width = shape.pop().unwrap_or_default();
        let rows: i64 = shape.iter().product();
        let logits = match rows <= FEW_ROWS {
            true => {
                shape.push(self.vocabulary());
                let columns = hidden.f_reshape([rows, width])?.f_transpose(0, 1)?;
                self.head.f_mm(&columns)?.f_transpose(0, 1)?.f_reshape(&shape)?
            }
            false => hidden.f_linear(&self.head, None::<&Tensor>)?,
        };
        Ok(logits.f_to_kind(Kind::Float)?)
    }

    /// How many logits there are.
    pub(crate) fn vocabulary(&self) -> i64 {
        self.head.size()[0]
    }

    /// Cosines and sines `[batch, 1, length, head_dim]` of positions `[3, batch, length]`.
    pub(super) fn rope(&self, positions: &Tensor) -> Result<(Tensor, Tensor)> {
        let (axes, batch, length) = positions.size3()?;
        let table = |t: &Tensor| -> Result<Tensor> {
            let Some(axis) = &self.axes else {
                let first = positions.f_select(0, 0)?.f_flatten(0, 1)?;
                return Ok(t.f_index_select(0, &first)?.f_view([batch, 1, length, self.head_dim])?);
            };
            let all = t.f_index_select(0, &positions.f_flatten(0, 2)?)?;
            let all = all.f_view([axes, batch, length, self.head_dim])?;
            let axis = axis.f_view([1, 1, 1, -1])?.f_expand([1, batch, length, self.head_dim], false)?;
            Ok(all.f_gather(0, &axis, false)?.f_view([batch, 1, length, self.head_dim])?)
        };
        Ok((table(&self.cos)?, table(&self.sin)?))
    }

    fn attention(
        &self,
        layer: &Layer,
        index: usize,
        x: &Tensor,
        rope: &(Tensor, Tensor),
        attend: &mut Attend<'_>,
    ) -> Result<Tensor> {
        let (batch, length, _) = x.size3()?;
        let heads = |linear: &Linear, heads: i64, norm: Option<&RmsNorm>| -> Result<Tensor> {
            let projected = linear.forward(x)?.f_view([batch, length, heads, self.head_dim])?;
            let normed = norm.map(|norm| norm.forward(&projected)).transpose()?;
            Ok(normed.unwrap_or(projected).f_transpose(1, 2)?)
        };
        let norms = layer.head_norms.as_ref();
        let query = heads(&layer.query, self.heads, norms.map(|[query, _]| query))?;
        let key = heads(&layer.key, self.kv_heads, norms.map(|[_, key]| key))?;
        let (query, key) = (rotate(&query, rope)?, rotate(&key, rope)?);
        let value = heads(&layer.value, self.kv_heads, None)?;
        let attended = match attend {
            Attend::Trees(trees) => self.tree_attention(&query, &key, &value, trees)?,
            Attend::Extend(cache) => {
                let past = cache.len();
                let (keys, values) = cache.append(index, &key, &value)?.joined()?;
                let mask = offset_mask(past, length, x.device())?;
                self.sdpa(&query, &keys, &values, mask.as_ref(), past == 0 && length > 1)?
            }
            Attend::Step(caches) => self.step_attention(index, &query, &key, &value, caches)?,
        };
        let width = self.heads * self.head_dim;
        let attended = attended.f_transpose(1, 2)?.f_reshape([batch, length, width])?;
        layer.out.forward(&attended)
    }

    /// A trunk attends like any sequence, and its branches each attend behind it, so that the work is that of
    /// the pairs of tokens which see each other, and no mask spans the row.
    fn tree_attention(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        trees: &[Tree],
    ) -> Result<Tensor> {
        let mut attended = Vec::new();
        let mut start = 0;
        for Tree { trunk, branches } in trees {
            let part = |t: &Tensor, start: i64, length: i64| t.f_narrow(2, start, length);
            let (keys, values) = (part(key, start, *trunk)?, part(value, start, *trunk)?);
            attended.push(self.sdpa(&part(query, start, *trunk)?, &keys, &values, None, *trunk > 1)?);
            start += trunk;
            for &length in branches.iter().filter(|length| **length > 0) {
                let behind = |before: &Tensor, t: &Tensor| -> Result<Tensor> {
                    Ok(Tensor::f_cat(&[before, &part(t, start, length)?], 2)?)
                };
                let mask = offset_mask(*trunk, length, query.device())?;
                let (keys, values) = (behind(&keys, key)?, behind(&values, value)?);
                attended.push(self.sdpa(
                    &part(query, start, length)?,
                    &keys,
                    &values,
                    mask.as_ref(),
                    false,
                )?);
                start += length;
            }
        }
        match attended.len() {
            1 => Ok(attended.swap_remove(0)),
            _ => Ok(Tensor::f_cat(&attended, 2)?),
        }
    }

    /// One call a sequence, so that a row's result does not depend on the others' lengths.
    fn step_attention(
        &self,
        index: usize,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        caches: &mut [&mut KvCache],
    ) -> Result<Tensor> {
        let rows = query.size()[0];
        let mut attended = Vec::with_capacity(rows as usize);
        for (row, cache) in caches.iter_mut().enumerate() {
            let row = row as i64;
            let at = |t: &Tensor| t.f_narrow(0, row, 1);
            let parts = cache.append(index, &at(key)?, &at(value)?)?;
            attended.push(self.token_attention(&at(query)?, parts)?);
        }
        let padding = rows - caches.len() as i64;
        if padding > 0 {
            attended.push(query.f_narrow(0, caches.len() as i64, padding)?.f_zeros_like()?);
        }
        Ok(Tensor::f_cat(&attended, 0)?)
    }

    /// Attention of one token `[1, heads, 1, head_dim]`, which sees everything. A prefix is read where it
    /// stands: joining it with the sequence's own keys and values would copy it for every token.
    fn token_attention(&self, query: &Tensor, parts: Parts) -> Result<Tensor> {
        let Parts { prefix: Some((shared_keys, shared_values)), own: (keys, values) } = parts else {
            return self.sdpa(query, &parts.own.0, &parts.own.1, None, false);
        };
        // Heads that share keys and values are rows of one product.
        let grouped = [1, self.kv_heads, self.heads / self.kv_heads, self.head_dim];
        let scale = (self.head_dim as f64).sqrt().recip();
        let query = query.f_reshape(grouped)?.f_mul_scalar(scale)?;
        let scores = |keys: &Tensor| query.f_matmul(&keys.f_transpose(2, 3)?);
        let scores = Tensor::f_cat(&[scores(&shared_keys)?, scores(&keys)?], 3)?;
        let weights = scores.f_softmax(-1, Kind::Float)?.f_to_kind(query.kind())?;
        let (before, behind) = (shared_keys.size()[2], keys.size()[2]);
        let shared = weights.f_narrow(3, 0, before)?.f_matmul(&shared_values)?;
        let own = weights.f_narrow(3, before, behind)?.f_matmul(&values)?;
        Ok(shared.f_add(&own)?.f_reshape([1, self.heads, 1, self.head_dim])?)
    }

    fn sdpa(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        mask: Option<&Tensor>,
        causal: bool,
    ) -> Result<Tensor> {
        let grouped = self.kv_heads != self.heads;
        Ok(Tensor::f_scaled_dot_product_attention(q, k, v, mask, 0.0, causal, None, grouped)?)
    }
}

/// Lets `length` new tokens see `past` old ones and themselves; `None` where `is_causal` or no mask
/// says the same.
fn offset_mask(past: i64, length: i64, device: Device) -> Result<Option<Tensor>> {
    if past == 0 || length == 1 {
        return Ok(None);
    }
    let all = Tensor::f_ones([length, past + length], (Kind::Bool, device))?;
    Ok(Some(all.f_tril(past)?))
}

/// Rotary embedding in the half-split form: x * cos + rotate_half(x) * sin.
fn rotate(x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
    let half = x.size()[3] / 2;
    let (first, second) = (x.f_narrow(3, 0, half)?, x.f_narrow(3, half, half)?);
    let turned = Tensor::f_cat(&[second.f_neg()?, first], 3)?;
    Ok(x.f_mul(cos)?.f_add(&turned.f_mul(sin)?)?)
}

/// `[max_positions, head_dim]` cosines and sines, computed in float32.
fn rotary_tables(config: &TextConfig, kind: Kind, device: Device) -> Result<(Tensor, Tensor)> {
    let dim = config.head_dim();
    let options = (Kind::Float, Device::Cpu);
    let exponents = Tensor::f_arange_start_step(0, dim, 2, options)?.f_div_scalar(dim as f64)?;
    let inverse = Tensor::f_pow_scalar(config.theta(), &exponents)?.f_reciprocal()?;
    let inverse = inverse.f_div_scalar(config.position_scale())?;
    let positions = Tensor::f_arange(config.max_position_embeddings as i64, options)?;
    let angles = positions.f_unsqueeze(1)?.f_mul(&inverse.f_unsqueeze(0)?)?;
    let angles = Tensor::f_cat(&[&angles, &angles], 1)?;
    let place = |t: Tensor| -> Result<Tensor> { Ok(t.f_to_kind(kind)?.f_to_device(device)?) };
    Ok((place(angles.f_cos()?)?, place(angles.f_sin()?)?))
}
