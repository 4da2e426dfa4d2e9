//! Llama decoder (arXiv 2302.13971): RMSNorm, rotary embeddings, grouped-query attention and SwiGLU, as
//! `LlamaForCausalLM` of transformers 5 computes it; optionally with biases (Qwen2), normalised queries and keys
//! (Qwen3), three-axis positions (Qwen-VL's M-RoPE) and sparse experts (Qwen3-VL MoE).

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

pub(crate) use super::attention_mode::{ActiveRows, AttentionMode, PackedSequence};
use super::attention_mode::{Attended, Call, mask_or, offset_mask};
use super::kv_cache::{KvCache, Parts, Prefix};
use super::layers::{Linear, RmsNorm};
use super::linear_weight::LinearWeight;
use super::mlp::Mlp;
use super::output_layer::{EMBEDDING, HEAD};
use super::product::{self, Mask};
use super::rotary::{rotary_tables, rotate};
use super::text_config::TextConfig;
use super::weights::Weights;
use crate::error::{Result, TorchError};

/// Decoder layer.
struct Layer {
    input_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    /// Norms of queries and keys, applied to each head.
    head_norms: Option<[RmsNorm; 2]>,
    post_norm: RmsNorm,
    mlp: Mlp,
}

/// Decoder layers, final norm and language-model head; the embedding is [`super::VideoLmm`]'s.
pub(crate) struct Decoder {
    layers: Vec<Layer>,
    norm: RmsNorm,
    head: Linear,
    /// Weight of the output layer, `[vocabulary, hidden]`.
    head_weight: Tensor,
    cos: Tensor,
    sin: Tensor,
    /// M-RoPE axis of each element of a head, `[head_dim]`; `None` for one-axis positions.
    axes: Option<Tensor>,
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
}

/// Inputs of a forward pass.
pub(crate) struct Inputs {
    /// Embeddings `[batch, length, hidden]`.
    pub(crate) embeddings: Tensor,
    /// Positions `[3, batch, length]` on the axes time, height and width.
    pub(crate) positions: Tensor,
    /// Features `[batch, length, hidden]` added to the outputs of the first layers (DeepStack, arXiv 2406.04334).
    pub(crate) deep: Vec<Tensor>,
}

impl Decoder {
    /// Takes the decoder's tensors from `weights`.
    ///
    /// # Errors
    /// A missing tensor, or M-RoPE sections that do not fit.
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
                mlp: Mlp::new(weights, &at("mlp"), config, index)?,
            })
        };
        // A tied output layer is there beside the embedding if an adapter unties it.
        let head = match weights.find(HEAD) {
            Some(head) => head,
            None => weights.get(if config.tie_word_embeddings { EMBEDDING } else { HEAD })?,
        };
        let output = LinearWeight::Dense(head.shallow_clone());
        let linear_head = Linear::with_weight(weights, "language_model.lm_head", output)?;
        let (cos, sin) = rotary_tables(config, kind, device)?;
        let axes = config.axes().map_err(TorchError::Engine)?;
        let axes = axes.map(|axes| Tensor::f_from_slice(&axes)?.f_to_device(device)).transpose()?;
        Ok(Self {
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: RmsNorm::new(weights, "language_model.model.norm", config.rms_norm_eps)?,
            head: linear_head,
            head_weight: head,
            cos,
            sin,
            axes,
            heads: config.num_attention_heads,
            kv_heads: config.kv_heads(),
            head_dim: config.head_dim(),
        })
    }

    /// Creates an empty KV cache with room for `capacity` tokens behind a prefix.
    pub(crate) fn cache(&self, prefix: Option<Rc<Prefix>>, capacity: i64) -> Result<KvCache> {
        let shape = [1, self.kv_heads, capacity, self.head_dim];
        KvCache::new(
            prefix,
            self.layers.len(),
            &shape,
            (self.head_weight.kind(), self.head_weight.device()),
        )
    }

    /// Computes final hidden states `[batch, length, hidden]`.
    pub(crate) fn forward(&self, inputs: &Inputs, mut mode: AttentionMode<'_>) -> Result<Tensor> {
        let rope = self.rope(&inputs.positions)?;
        let mut x = inputs.embeddings.shallow_clone();
        for index in 0..self.layers.len() {
            x = self.layer(index, &x, &rope, &mut mode)?;
            if let Some(deep) = inputs.deep.get(index) {
                x = x.f_add(&self.select_outputs(index, deep, 1, &mode)?)?;
            }
        }
        self.norm.forward(&x)
    }

    /// Computes the hidden states of [`AttentionMode::PackedSuffixes`] without the layers: one parameter-free
    /// attention over the embeddings, in which each prefix's last token and each suffix token attends to the
    /// prefix with its RMS-normalised embedding as the query, followed by the final norm.
    pub(crate) fn skip_layers(&self, inputs: &Inputs, packed: &[PackedSequence]) -> Result<Tensor> {
        let mut start = 0;
        let attend = |sequence: &PackedSequence| -> Result<Tensor> {
            let (prefix, suffix) = (sequence.prefix, sequence.suffix_tokens());
            let keys = inputs.embeddings.f_narrow(1, start, prefix)?;
            let tokens = inputs.embeddings.f_narrow(1, start + prefix - 1, 1 + suffix)?;
            start += prefix + suffix;
            let mean = tokens.f_square()?.f_mean_dim(-1, true, Kind::Float)?;
            let query = tokens.f_mul(&mean.f_add_scalar(1e-5)?.f_rsqrt()?.f_to_kind(tokens.kind())?)?;
            let (query, keys) = (query.f_unsqueeze(1)?, keys.f_unsqueeze(1)?);
            Ok(tokens.f_add(&product::attention(&query, &keys, &keys, Mask::Full)?.f_squeeze_dim(1)?)?)
        };
        let parts = packed.iter().map(attend).collect::<Result<Vec<_>>>()?;
        self.norm.forward(&Tensor::f_cat(&parts, 1)?)
    }

    /// Returns the number of layers.
    pub(crate) fn depth(&self) -> usize {
        self.layers.len()
    }

    /// Computes one layer's output from hidden states `[batch, length, hidden]`.
    pub(super) fn layer(
        &self,
        index: usize,
        x: &Tensor,
        rope: &(Tensor, Tensor),
        mode: &mut AttentionMode<'_>,
    ) -> Result<Tensor> {
        let layer = &self.layers[index];
        let normed = layer.input_norm.forward(x)?;
        if let AttentionMode::Fill(cache) = mode
            && index + 1 == self.layers.len()
        {
            let (key, value) = self.key_value(layer, &normed, rope)?;
            let _ = cache.append(index, &key, &value)?;
            return Ok(x.shallow_clone());
        }
        let attended = self.attention(layer, index, &normed, rope, mode)?;
        let x = self.select_outputs(index, x, 1, mode)?.f_add(&attended)?;
        let normed = layer.post_norm.forward(&x)?;
        Ok(x.f_add(&layer.mlp.forward(&normed, matches!(mode, AttentionMode::Step(_)))?)?)
    }

    /// Selects the tokens on axis `dim` of `t` whose output layer `index` computes.
    pub(super) fn select_outputs(
        &self,
        index: usize,
        t: &Tensor,
        dim: i64,
        mode: &AttentionMode<'_>,
    ) -> Result<Tensor> {
        match index + 1 == self.layers.len() {
            true => mode.select_outputs(t, dim),
            false => Ok(t.shallow_clone()),
        }
    }

    /// Applies the final norm.
    pub(super) fn final_norm(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(x)
    }

    /// Computes logits `[.., vocabulary]` in float32 from final hidden states `[.., hidden]`.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(self.head.forward(hidden)?.f_to_kind(Kind::Float)?)
    }

    /// Returns the output layer's weight `[vocabulary, hidden]`.
    pub(crate) fn head(&self) -> &Tensor {
        &self.head_weight
    }

    /// Computes logits as [`logits`](Self::logits) does, by a given weight of the output layer.
    pub(crate) fn logits_by(head: &Tensor, hidden: &Tensor) -> Result<Tensor> {
        Ok(product::linear(hidden, head, None)?.f_to_kind(Kind::Float)?)
    }

    /// Returns the size of the vocabulary.
    pub(crate) fn vocabulary(&self) -> i64 {
        self.head_weight.size()[0]
    }

    /// Returns cosines and sines `[batch, 1, length, head_dim]` of positions `[3, batch, length]`.
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
        mode: &mut AttentionMode<'_>,
    ) -> Result<Tensor> {
        let (key, value) = self.key_value(layer, x, rope)?;
        let outputs = |t: &Tensor, dim: i64| self.select_outputs(index, t, dim, mode);
        let (x, rope) = (outputs(x, 1)?, (outputs(&rope.0, 2)?, outputs(&rope.1, 2)?));
        let norm = layer.head_norms.as_ref().map(|[query, _]| query);
        let query = rotate(&self.by_heads(&layer.query, &x, self.heads, norm)?, &rope)?;
        let (batch, length, _) = x.size3()?;
        let attended = match mode {
            AttentionMode::Packed(packed) | AttentionMode::PackedSuffixes(packed) => {
                self.packed_attention(&query, &key, &value, packed)?
            }
            AttentionMode::Extend(cache) | AttentionMode::Fill(cache) => {
                let past = cache.len();
                let (keys, values) = cache.append(index, &key, &value)?.joined()?;
                let mask = offset_mask(past, length, x.device())?;
                product::attention(&query, &keys, &values, mask_or(mask.as_ref(), past == 0 && length > 1))?
            }
            AttentionMode::Step(steps) => self.step_attention(index, &query, &key, &value, steps)?,
        };
        let width = self.heads * self.head_dim;
        let attended = attended.f_transpose(1, 2)?.f_reshape([batch, length, width])?;
        layer.out.forward(&attended)
    }

    /// Returns rotated keys and values `[batch, kv_heads, length, head_dim]`.
    fn key_value(&self, layer: &Layer, x: &Tensor, rope: &(Tensor, Tensor)) -> Result<(Tensor, Tensor)> {
        let norm = layer.head_norms.as_ref().map(|[_, key]| key);
        let key = rotate(&self.by_heads(&layer.key, x, self.kv_heads, norm)?, rope)?;
        Ok((key, self.by_heads(&layer.value, x, self.kv_heads, None)?))
    }

    /// Projects to `[batch, heads, length, head_dim]`, optionally normalised.
    fn by_heads(&self, linear: &Linear, x: &Tensor, heads: i64, norm: Option<&RmsNorm>) -> Result<Tensor> {
        let (batch, length, _) = x.size3()?;
        let projected = linear.forward(x)?.f_view([batch, length, heads, self.head_dim])?;
        let normed = norm.map(|norm| norm.forward(&projected)).transpose()?;
        Ok(normed.unwrap_or(projected).f_transpose(1, 2)?)
    }

    /// Computes attention of packed sequences by the [`calls`](PackedSequence::calls) of each. The work is nearly that of
    /// the attending pairs of tokens, keys and values are not copied, and no mask spans the row. With fewer queries than
    /// keys, the only query of a prefix is its last token.
    fn packed_attention(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        packed: &[PackedSequence],
    ) -> Result<Tensor> {
        let mut attended = Vec::new();
        let (last_alone, on_gpu) = (query.size()[2] < key.size()[2], query.device().is_cuda());
        let (mut first_query, mut start) = (0, 0);
        for sequence in packed {
            for Call { queries, keys, attended: tokens } in sequence.calls(last_alone, on_gpu) {
                let mask = match tokens {
                    Attended::All => Mask::Full,
                    Attended::Before => Mask::Causal,
                    Attended::Masked => Mask::Custom(sequence.mask(query.device())?),
                };
                let part = |t: &Tensor| t.f_narrow(2, start, keys);
                let query = query.f_narrow(2, first_query, queries)?;
                attended.push(product::attention(&query, &part(key)?, &part(value)?, mask)?);
                first_query += queries;
            }
            start += sequence.prefix + sequence.suffix_tokens();
        }
        match attended.len() {
            1 => Ok(attended.swap_remove(0)),
            _ => Ok(Tensor::f_cat(&attended, 2)?),
        }
    }

    /// Computes attention of a decoding step with one call for each cache, so that a result does not depend on the
    /// lengths of sequences in other caches.
    fn step_attention(
        &self,
        index: usize,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        steps: &mut [ActiveRows<'_>],
    ) -> Result<Tensor> {
        let mut attended = Vec::with_capacity(steps.len() + 1);
        let mut start = 0;
        for step in steps.iter_mut() {
            let part = |t: &Tensor| step.scatter(t.f_narrow(0, start, step.count)?);
            let (query, key, value) = (part(query)?, part(key)?, part(value)?);
            let parts = step.cache.append(index, &key, &value)?;
            attended.push(step.gather(self.token_attention(&query, parts)?)?);
            start += step.count;
        }
        let padding = query.size()[0] - start;
        if padding > 0 {
            attended.push(query.f_narrow(0, start, padding)?.f_zeros_like()?);
        }
        Ok(Tensor::f_cat(&attended, 0)?)
    }

    /// Computes full attention of one token of each sequence, `[sequences, heads, 1, head_dim]`. Scores against a
    /// shared prefix are one product for all sequences, without a copy of the prefix for each of them.
    fn token_attention(&self, query: &Tensor, parts: Parts) -> Result<Tensor> {
        let Parts { prefix: Some((shared_keys, shared_values)), own: (keys, values) } = parts else {
            return product::attention(query, &parts.own.0, &parts.own.1, Mask::Full);
        };
        // Query heads that share a KV head are rows of one product; with a prefix, so are sequences.
        let (sequences, group) = (query.size()[0], self.heads / self.kv_heads);
        let apart = |t: &Tensor, width: i64| -> Result<Tensor> {
            Ok(t.f_view([self.kv_heads, sequences, group, width])?.f_transpose(0, 1)?)
        };
        let together = |t: &Tensor, width: i64| -> Result<Tensor> {
            Ok(t.f_transpose(0, 1)?.f_reshape([self.kv_heads, sequences * group, width])?)
        };
        let scale = (self.head_dim as f64).sqrt().recip();
        let query =
            query.f_reshape([sequences, self.kv_heads, group, self.head_dim])?.f_mul_scalar(scale)?;
        let (before, behind) = (shared_keys.size()[2], keys.size()[2]);
        let (shared_keys, shared_values) = (shared_keys.f_squeeze_dim(0)?, shared_values.f_squeeze_dim(0)?);
        let shared = product::matmul(&together(&query, self.head_dim)?, &shared_keys.f_transpose(1, 2)?)?;
        let own = product::matmul(&query, &keys.f_transpose(2, 3)?)?;
        let scores = Tensor::f_cat(&[apart(&shared, before)?, own], 3)?;
        let weights = scores.f_softmax(-1, Kind::Float)?.f_to_kind(query.kind())?;
        let shared = product::matmul(&together(&weights.f_narrow(3, 0, before)?, before)?, &shared_values)?;
        let own = product::matmul(&weights.f_narrow(3, before, behind)?, &values)?;
        let all = own.f_add(&apart(&shared, self.head_dim)?)?;
        Ok(all.f_reshape([sequences, self.heads, 1, self.head_dim])?)
    }
}
