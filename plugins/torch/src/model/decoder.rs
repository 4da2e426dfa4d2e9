//! A Llama decoder (arXiv 2302.13971): RMSNorm, rotary embeddings, grouped-query attention, SwiGLU, as
//! `LlamaForCausalLM` in transformers computes it.

use tch::{Device, Kind, Tensor};

use super::config::TextConfig;
use super::kv_cache::KvCache;
use super::weights::Weights;
use crate::error::Result;

struct Layer {
    input_norm: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    post_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

/// The decoder without its embedding: hidden states in, hidden states out.
pub(crate) struct Decoder {
    layers: Vec<Layer>,
    norm: Tensor,
    head: Tensor,
    cos: Tensor,
    sin: Tensor,
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
    eps: f64,
}

/// How the tokens of a forward pass attend.
pub(crate) enum Attend<'a> {
    /// Whole sequences `[batch, length]`, each token to itself and those before it; nothing is kept.
    Causal,
    /// One sequence, after what its cache holds; keys and values are added to the cache.
    Extend(&'a mut KvCache),
    /// One token of each of several sequences, each after its own cache. Rows past the caches are
    /// padding: they are computed and mean nothing.
    Step(&'a mut [&'a mut KvCache]),
}

impl Decoder {
    pub(crate) fn new(weights: &Weights, config: &TextConfig, kind: Kind, device: Device) -> Result<Self> {
        let get = |name: &str| weights.get(&format!("language_model.model.{name}"));
        let layer = |index: i64| -> Result<Layer> {
            let at = |name: &str| get(&format!("layers.{index}.{name}.weight"));
            Ok(Layer {
                input_norm: at("input_layernorm")?,
                query: at("self_attn.q_proj")?,
                key: at("self_attn.k_proj")?,
                value: at("self_attn.v_proj")?,
                out: at("self_attn.o_proj")?,
                post_norm: at("post_attention_layernorm")?,
                gate: at("mlp.gate_proj")?,
                up: at("mlp.up_proj")?,
                down: at("mlp.down_proj")?,
            })
        };
        let head = match config.tie_word_embeddings {
            true => get("embed_tokens.weight")?,
            false => weights.get("language_model.lm_head.weight")?,
        };
        let (cos, sin) = rotary_tables(config, kind, device)?;
        Ok(Self {
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: get("norm.weight")?,
            head,
            cos,
            sin,
            heads: config.num_attention_heads,
            kv_heads: config.kv_heads(),
            head_dim: config.head_dim(),
            eps: config.rms_norm_eps,
        })
    }

    /// An empty cache for at most `capacity` tokens.
    pub(crate) fn cache(&self, capacity: i64) -> Result<KvCache> {
        let shape = [1, self.kv_heads, capacity, self.head_dim];
        KvCache::new(self.layers.len(), &shape, (self.norm.kind(), self.norm.device()))
    }

    /// Final hidden states `[batch, length, hidden]` of embeddings of that shape, at `positions`
    /// (`[length]` for [`Attend::Causal`] and [`Attend::Extend`], `[batch]` for [`Attend::Step`]).
    pub(crate) fn forward(
        &self,
        embeddings: &Tensor,
        positions: &Tensor,
        mut attend: Attend<'_>,
    ) -> Result<Tensor> {
        let rope = self.rope(positions, &attend)?;
        let mut x = embeddings.shallow_clone();
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = self.rms_norm(&x, &layer.input_norm)?;
            let attended = self.attention(layer, index, &normed, &rope, &mut attend)?;
            x = x.f_add(&attended)?;
            let normed = self.rms_norm(&x, &layer.post_norm)?;
            let gate = normed.f_linear(&layer.gate, None::<&Tensor>)?.f_silu()?;
            let up = normed.f_linear(&layer.up, None::<&Tensor>)?;
            x = x.f_add(&gate.f_mul(&up)?.f_linear(&layer.down, None::<&Tensor>)?)?;
        }
        self.rms_norm(&x, &self.norm)
    }

    /// Logits in float32 of hidden states `[.., hidden]`.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(hidden.f_linear(&self.head, None::<&Tensor>)?.f_to_kind(Kind::Float)?)
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let width = weight.size();
        Ok(x.f_rms_norm(width.as_slice(), Some(weight), self.eps)?)
    }

    /// Cosines and sines that broadcast against `[batch, heads, length, head_dim]`.
    fn rope(&self, positions: &Tensor, attend: &Attend<'_>) -> Result<(Tensor, Tensor)> {
        let count = positions.size()[0];
        let shape = match attend {
            Attend::Step(_) => [count, 1, 1, self.head_dim],
            _ => [1, 1, count, self.head_dim],
        };
        let table = |t: &Tensor| -> Result<Tensor> { Ok(t.f_index_select(0, positions)?.f_view(shape)?) };
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
        let heads = |weight: &Tensor, heads: i64| -> Result<Tensor> {
            let projected = x.f_linear(weight, None::<&Tensor>)?;
            Ok(projected.f_view([batch, length, heads, self.head_dim])?.f_transpose(1, 2)?)
        };
        let query = rotate(&heads(&layer.query, self.heads)?, rope)?;
        let key = rotate(&heads(&layer.key, self.kv_heads)?, rope)?;
        let value = heads(&layer.value, self.kv_heads)?;
        let attended = match attend {
            Attend::Causal => self.sdpa(&query, &key, &value, None, true)?,
            Attend::Extend(cache) => {
                let past = cache.len();
                let (keys, values) = cache.append(index, &key, &value)?;
                let mask = offset_mask(past, length, x.device())?;
                self.sdpa(&query, &keys, &values, mask.as_ref(), past == 0 && length > 1)?
            }
            Attend::Step(caches) => self.step_attention(index, &query, &key, &value, caches)?,
        };
        let width = self.heads * self.head_dim;
        let attended = attended.f_transpose(1, 2)?.f_reshape([batch, length, width])?;
        Ok(attended.f_linear(&layer.out, None::<&Tensor>)?)
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
            let (keys, values) = cache.append(index, &at(key)?, &at(value)?)?;
            attended.push(self.sdpa(&at(query)?, &keys, &values, None, false)?);
        }
        let padding = rows - caches.len() as i64;
        if padding > 0 {
            attended.push(query.f_narrow(0, caches.len() as i64, padding)?.f_zeros_like()?);
        }
        Ok(Tensor::f_cat(&attended, 0)?)
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
    let positions = Tensor::f_arange(config.max_position_embeddings as i64, options)?;
    let angles = positions.f_unsqueeze(1)?.f_mul(&inverse.f_unsqueeze(0)?)?;
    let angles = Tensor::f_cat(&[&angles, &angles], 1)?;
    let place = |t: Tensor| -> Result<Tensor> { Ok(t.f_to_kind(kind)?.f_to_device(device)?) };
    Ok((place(angles.f_cos()?)?, place(angles.f_sin()?)?))
}
