//! A decoder of the Llama form (arXiv 2302.13971): RMSNorm, rotary embeddings, grouped-query attention,
//! SwiGLU, as `LlamaForCausalLM` in transformers computes it; with what its config asks for beside:
//! biases (Qwen2), a norm of queries and keys (Qwen3), positions on three axes (Qwen-VL's M-RoPE).

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use super::activation::Activation;
use super::kv_cache::{KvCache, Parts, Prefix};
use super::layers::{Linear, RmsNorm};
use super::product::{self, Sees};
use super::text_config::TextConfig;
use super::weights::Weights;
use crate::error::{Result, TorchError};

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

impl Tree {
    /// Which tokens the branches' tokens see, `[behind, trunk + behind]`.
    fn mask(&self, device: Device) -> Result<Tensor> {
        let ones = |shape: [i64; 2]| Tensor::f_ones(shape, (Kind::Bool, device));
        let own = |&length: &i64| Ok(ones([length, length])?.f_tril(0)?);
        let own = Tensor::f_block_diag(&self.branches.iter().map(own).collect::<Result<Vec<_>>>()?)?;
        Ok(Tensor::f_cat(&[ones([own.size()[0], self.trunk])?, own], 1)?)
    }
}

/// How the tokens of a forward pass attend.
pub(crate) enum Attend<'a> {
    /// Whole sequences side by side in one row; nothing is kept.
    Trees(&'a [Tree]),
    /// The same, but the last layer's output is that of each trunk's last token and of the branches alone:
    /// what answers are predicted from. The other tokens are only seen by them.
    Answers(&'a [Tree]),
    /// One sequence, after what its cache holds; keys and values are added to the cache.
    Extend(&'a mut KvCache),
    /// The same for the cache alone: the output means nothing, and the last layer's is not computed.
    Fill(&'a mut KvCache),
    /// One token of each of several sequences. Rows past theirs are padding: they are computed and mean
    /// nothing.
    Step(&'a mut [Step<'a>]),
}

impl Attend<'_> {
    /// What of the last layer's tokens, on axis `dim` of `t`, is computed to the end.
    pub(super) fn wanted(&self, t: &Tensor, dim: i64) -> Result<Tensor> {
        let Self::Answers(trees) = self else { return Ok(t.shallow_clone()) };
        let mut start = 0;
        let part = |Tree { trunk, branches }: &Tree| -> Result<Tensor> {
            let behind = branches.iter().sum::<i64>();
            let part = t.f_narrow(dim, start + trunk - 1, 1 + behind)?;
            start += trunk + behind;
            Ok(part)
        };
        let parts = trees.iter().map(part).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&parts, dim)?)
    }
}

/// Sequences of one cache that go on by a token each.
pub(crate) struct Step<'a> {
    cache: &'a mut KvCache,
    /// How many go on.
    going: i64,
    /// Which, where not all do.
    places: Option<Tensor>,
}

impl<'a> Step<'a> {
    /// Those in these places of the cache, in rising order, go on.
    pub(crate) fn new(cache: &'a mut KvCache, places: &[i64]) -> Result<Self> {
        let (going, device) = (places.len() as i64, cache.device());
        let all = going == cache.sequences();
        let places = match all {
            true => None,
            false => Some(Tensor::f_from_slice(places)?.f_to_device(device)?),
        };
        Ok(Self { cache, going, places })
    }

    /// Rows of the sequences that go on, at their places among all of the cache's; zeros at others.
    fn spread(&self, rows: Tensor) -> Result<Tensor> {
        let Some(places) = &self.places else { return Ok(rows) };
        let mut shape = rows.size();
        shape[0] = self.cache.sequences();
        Ok(rows.f_new_zeros(&shape, (rows.kind(), rows.device()))?.f_index_copy(0, places, &rows)?)
    }

    /// Back from all of the cache's sequences to those that go on.
    fn gather(&self, all: Tensor) -> Result<Tensor> {
        match &self.places {
            Some(places) => Ok(all.f_index_select(0, places)?),
            None => Ok(all),
        }
    }
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
                x = x.f_add(&self.asking(index, deep, 1, &attend)?)?;
            }
        }
        self.norm.forward(&x)
    }

    /// What the layers leave of [`Attend::Answers`], and no layer: each trunk's last token and each token of
    /// its branches looks at the trunk once, by the likeness of its embedding to theirs.
    pub(crate) fn glance(&self, inputs: &Inputs, trees: &[Tree]) -> Result<Tensor> {
        let mut start = 0;
        let look = |Tree { trunk, branches }: &Tree| -> Result<Tensor> {
            let behind = branches.iter().sum::<i64>();
            let seen = inputs.embeddings.f_narrow(1, start, *trunk)?;
            let asking = inputs.embeddings.f_narrow(1, start + trunk - 1, 1 + behind)?;
            start += trunk + behind;
            let mean = asking.f_square()?.f_mean_dim(-1, true, Kind::Float)?;
            let query = asking.f_mul(&mean.f_add_scalar(1e-5)?.f_rsqrt()?.f_to_kind(asking.kind())?)?;
            let (query, seen) = (query.f_unsqueeze(1)?, seen.f_unsqueeze(1)?);
            Ok(asking.f_add(&product::attention(&query, &seen, &seen, Sees::All)?.f_squeeze_dim(1)?)?)
        };
        let parts = trees.iter().map(look).collect::<Result<Vec<_>>>()?;
        self.norm.forward(&Tensor::f_cat(&parts, 1)?)
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
        if let Attend::Fill(cache) = attend
            && index + 1 == self.layers.len()
        {
            let (key, value) = self.key_value(layer, &normed, rope)?;
            let _ = cache.append(index, &key, &value)?;
            return Ok(x.shallow_clone());
        }
        let attended = self.attention(layer, index, &normed, rope, attend)?;
        let x = self.asking(index, x, 1, attend)?.f_add(&attended)?;
        let normed = layer.post_norm.forward(&x)?;
        let gate = self.activation.forward(&layer.gate.forward(&normed)?)?;
        let up = layer.up.forward(&normed)?;
        Ok(x.f_add(&layer.down.forward(&gate.f_mul(&up)?)?)?)
    }

    /// Those tokens, on axis `dim` of `t`, of which a layer's output is wanted.
    pub(super) fn asking(&self, index: usize, t: &Tensor, dim: i64, attend: &Attend<'_>) -> Result<Tensor> {
        match index + 1 == self.layers.len() {
            true => attend.wanted(t, dim),
            false => Ok(t.shallow_clone()),
        }
    }

    /// The normalisation behind the last layer.
    pub(super) fn last_norm(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(x)
    }

    /// Logits in float32 of hidden states `[.., hidden]`.
    pub(crate) fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let logits = product::linear(hidden, &self.head, None)?;
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
        let (key, value) = self.key_value(layer, x, rope)?;
        let asking = |t: &Tensor, dim: i64| self.asking(index, t, dim, attend);
        let (x, rope) = (asking(x, 1)?, (asking(&rope.0, 2)?, asking(&rope.1, 2)?));
        let norm = layer.head_norms.as_ref().map(|[query, _]| query);
        let query = rotate(&self.by_heads(&layer.query, &x, self.heads, norm)?, &rope)?;
        let (batch, length, _) = x.size3()?;
        let attended = match attend {
            Attend::Trees(trees) | Attend::Answers(trees) => {
                self.tree_attention(&query, &key, &value, trees)?
            }
            Attend::Extend(cache) | Attend::Fill(cache) => {
                let past = cache.len();
                let (keys, values) = cache.append(index, &key, &value)?.joined()?;
                let mask = offset_mask(past, length, x.device())?;
                product::attention(&query, &keys, &values, sees(mask.as_ref(), past == 0 && length > 1))?
            }
            Attend::Step(steps) => self.step_attention(index, &query, &key, &value, steps)?,
        };
        let width = self.heads * self.head_dim;
        let attended = attended.f_transpose(1, 2)?.f_reshape([batch, length, width])?;
        layer.out.forward(&attended)
    }

    fn key_value(&self, layer: &Layer, x: &Tensor, rope: &(Tensor, Tensor)) -> Result<(Tensor, Tensor)> {
        let norm = layer.head_norms.as_ref().map(|[_, key]| key);
        let key = rotate(&self.by_heads(&layer.key, x, self.kv_heads, norm)?, rope)?;
        Ok((key, self.by_heads(&layer.value, x, self.kv_heads, None)?))
    }

    /// A projection, `[batch, heads, length, head_dim]`.
    fn by_heads(&self, linear: &Linear, x: &Tensor, heads: i64, norm: Option<&RmsNorm>) -> Result<Tensor> {
        let (batch, length, _) = x.size3()?;
        let projected = linear.forward(x)?.f_view([batch, length, heads, self.head_dim])?;
        let normed = norm.map(|norm| norm.forward(&projected)).transpose()?;
        Ok(normed.unwrap_or(projected).f_transpose(1, 2)?)
    }

    /// A trunk attends like any sequence, and its branches together behind it, so that the work is nearly that
    /// of the pairs of tokens which see each other, keys and values are read where they stand, and no mask
    /// spans the row. With fewer queries than keys, a trunk's last token alone asks.
    fn tree_attention(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        trees: &[Tree],
    ) -> Result<Tensor> {
        let mut attended = Vec::new();
        let last_alone = query.size()[2] < key.size()[2];
        let (mut asked, mut start) = (0, 0);
        for tree in trees {
            let behind = tree.branches.iter().sum::<i64>();
            let asking = if last_alone { 1 } else { tree.trunk };
            let mut attend = |queries: i64, keys: i64, sees: Sees<'_>| -> Result<()> {
                let part = |t: &Tensor| t.f_narrow(2, start, keys);
                let queries = query.f_narrow(2, asked, queries)?;
                asked += queries.size()[2];
                attended.push(product::attention(&queries, &part(key)?, &part(value)?, sees)?);
                Ok(())
            };
            attend(asking, tree.trunk, sees(None, asking > 1))?;
            if behind > 0 {
                attend(behind, tree.trunk + behind, Sees::Masked(&tree.mask(query.device())?))?;
            }
            start += tree.trunk + behind;
        }
        match attended.len() {
            1 => Ok(attended.swap_remove(0)),
            _ => Ok(Tensor::f_cat(&attended, 2)?),
        }
    }

    /// A call for the sequences of each cache, so that a result does not depend on the others' lengths.
    fn step_attention(
        &self,
        index: usize,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        steps: &mut [Step<'_>],
    ) -> Result<Tensor> {
        let mut attended = Vec::with_capacity(steps.len() + 1);
        let mut start = 0;
        for step in steps.iter_mut() {
            let part = |t: &Tensor| step.spread(t.f_narrow(0, start, step.going)?);
            let (query, key, value) = (part(query)?, part(key)?, part(value)?);
            let parts = step.cache.append(index, &key, &value)?;
            attended.push(step.gather(self.token_attention(&query, parts)?)?);
            start += step.going;
        }
        let padding = query.size()[0] - start;
        if padding > 0 {
            attended.push(query.f_narrow(0, start, padding)?.f_zeros_like()?);
        }
        Ok(Tensor::f_cat(&attended, 0)?)
    }

    /// Attention of one token of each sequence, `[sequences, heads, 1, head_dim]`, which sees everything. A
    /// prefix is read where it stands, once for all sequences: joining it with each one's own keys and values
    /// would copy it for every token.
    fn token_attention(&self, query: &Tensor, parts: Parts) -> Result<Tensor> {
        let Parts { prefix: Some((shared_keys, shared_values)), own: (keys, values) } = parts else {
            return product::attention(query, &parts.own.0, &parts.own.1, Sees::All);
        };
        // Heads that share keys and values are rows of one product; with a prefix, so are sequences.
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

fn sees(mask: Option<&Tensor>, causal: bool) -> Sees<'_> {
    match mask {
        Some(mask) => Sees::Masked(mask),
        None if causal => Sees::Before,
        None => Sees::All,
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
