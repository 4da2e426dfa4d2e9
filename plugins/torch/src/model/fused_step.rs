//! Decoding step of all sequences at once. The number of operations does not depend on how many prompts and sequences
//! are in it, which is what a GPU needs: there a step of small operations is bound by their launches.
//!
//! Results are those of [`Decoder::forward`](super::decoder::Decoder::forward) with another order of sums, and depend on
//! what else is in the batch by rounding.

use tch::{Device, Kind, Tensor};

use super::activation::Activation;
use super::group_cache::{GroupCache, GroupOperands, GroupShape};
use super::layers::RmsNorm;
use super::rotary::rotary_tables;
use super::text_config::TextConfig;
use super::weights::Weights;
use crate::error::Result;
use crate::lora::Lora;

/// Decoder layers with the projections of an input side by side in one matrix.
pub(crate) struct FusedStep {
    layers: Vec<Layer>,
    norm: RmsNorm,
    cos: Tensor,
    /// Sines with the sign of `rotate_half`.
    sin: Tensor,
    /// `[1, 1, 1]`, for scaled products without a summand.
    zero: Tensor,
    activation: Activation,
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
    head_eps: f64,
    inner: i64,
    kind: Kind,
    device: Device,
    /// Whether `low_rank` and `head_scales` hold the current weights.
    is_current: bool,
}

struct Layer {
    input_norm: RmsNorm,
    /// Queries, keys and values.
    qkv: FusedLinear,
    out: FusedLinear,
    /// Weights of the norms of queries and keys.
    head_norms: Option<[Tensor; 2]>,
    /// These by head, `[heads + kv_heads, head_dim]`.
    head_scales: Option<Tensor>,
    post_norm: RmsNorm,
    /// Gate and up projections.
    gate_up: FusedLinear,
    down: FusedLinear,
}

/// Linear layers of one input, side by side.
struct FusedLinear {
    /// `[out, in]`.
    weight: Tensor,
    bias: Option<Tensor>,
    /// Adapters, with the first output and the number of outputs of their layers.
    adapters: Vec<(Lora, i64, i64)>,
    /// Adapters as two matrices, `[in, ranks]` and `[ranks, out]`.
    low_rank: Option<[Tensor; 2]>,
}

/// Sequences of a step that share a [`GroupCache`], and where their tokens go.
pub(crate) struct StepGroups<'a> {
    pub(crate) cache: &'a GroupCache,
    /// Rows of the cache's table for the new keys and values, `[sequences * 2 * kv_heads]`.
    pub(crate) rows: Tensor,
    /// Own tokens of each sequence with the new one, `[sequences]`.
    pub(crate) lengths: Tensor,
    /// Own tokens that the step looks at, at least the largest of `lengths`.
    pub(crate) span: i64,
}

impl FusedStep {
    /// Names of the fused projections of a layer and of the layers in them.
    const FUSED: [(&'static str, &'static [&'static str]); 2] = [
        ("self_attn.qkv", &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        ("mlp.gate_up", &["mlp.gate_proj", "mlp.up_proj"]),
    ];

    /// Places the weights that a step multiplies together side by side in memory. The named tensors become views.
    pub(super) fn arrange(weights: &mut Weights, config: &TextConfig) -> Result<()> {
        for index in 0..config.num_hidden_layers {
            let at = |name: &str| format!("language_model.model.layers.{index}.{name}");
            for (fused, parts) in Self::FUSED {
                for tensor in ["weight", "bias"] {
                    let parts: Vec<String> =
                        parts.iter().map(|part| format!("{}.{tensor}", at(part))).collect();
                    weights.fuse(&format!("{}.{tensor}", at(fused)), &parts)?;
                }
            }
        }
        Ok(())
    }

    /// Takes the decoder's tensors from weights that [`arrange`](Self::arrange) has arranged.
    pub(super) fn new(weights: &Weights, config: &TextConfig, kind: Kind, device: Device) -> Result<Self> {
        let layer = |index: i64| -> Result<Layer> {
            let at = |name: &str| format!("language_model.model.layers.{index}.{name}");
            let norm = |name: &str| RmsNorm::new(weights, &at(name), config.rms_norm_eps);
            let fused = |at_fused: usize| {
                let (fused, parts) = Self::FUSED[at_fused];
                let parts: Vec<String> = parts.iter().map(|part| at(part)).collect();
                FusedLinear::new(weights, &at(fused), &parts)
            };
            let single = |name: &str| FusedLinear::new(weights, &at(name), &[at(name)]);
            let scale = |name: &str| weights.get(&at(&format!("{name}.weight")));
            Ok(Layer {
                input_norm: norm("input_layernorm")?,
                qkv: fused(0)?,
                out: single("self_attn.o_proj")?,
                head_norms: match config.has_qk_norm() {
                    true => Some([scale("self_attn.q_norm")?, scale("self_attn.k_norm")?]),
                    false => None,
                },
                head_scales: None,
                post_norm: norm("post_attention_layernorm")?,
                gate_up: fused(1)?,
                down: single("mlp.down_proj")?,
            })
        };
        let (cos, sin) = rotary_tables(config, kind, device)?;
        let half = config.head_dim() / 2;
        let sin = Tensor::f_cat(&[sin.f_narrow(1, 0, half)?.f_neg()?, sin.f_narrow(1, half, half)?], 1)?;
        Ok(Self {
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: RmsNorm::new(weights, "language_model.model.norm", config.rms_norm_eps)?,
            cos,
            sin,
            zero: Tensor::f_zeros([1, 1, 1], (kind, device))?,
            activation: config.hidden_act,
            heads: config.num_attention_heads,
            kv_heads: config.kv_heads(),
            head_dim: config.head_dim(),
            head_eps: config.rms_norm_eps,
            inner: config.intermediate_size,
            kind,
            device,
            is_current: false,
        })
    }

    /// Forgets what was computed from weights that are about to change.
    pub(crate) fn invalidate(&mut self) {
        self.is_current = false;
    }

    /// Takes over the current values of adapters and head norms, if they have changed; to be called before
    /// [`forward`](Self::forward).
    pub(crate) fn refresh(&mut self) -> Result<()> {
        if self.is_current {
            return Ok(());
        }
        let kind = self.kind;
        for layer in &mut self.layers {
            for linear in [&mut layer.qkv, &mut layer.out, &mut layer.gate_up, &mut layer.down] {
                linear.refresh(kind)?;
            }
            if let Some([query, key]) = &layer.head_norms {
                let by_head = |t: &Tensor, heads: i64| -> Result<Tensor> {
                    Ok(t.f_detach()?.f_unsqueeze(0)?.f_expand([heads, self.head_dim], false)?)
                };
                let all = [by_head(query, self.heads)?, by_head(key, self.kv_heads)?];
                layer.head_scales = Some(Tensor::f_cat(&all, 0)?);
            }
        }
        self.is_current = true;
        Ok(())
    }

    /// Creates a cache without groups.
    pub(crate) fn cache(&self, shape: GroupShape) -> Result<GroupCache> {
        let heads = (self.kv_heads, self.head_dim);
        GroupCache::new(shape, self.layers.len(), heads, (self.kind, self.device))
    }

    /// Computes final hidden states `[sequences, hidden]` of one token of each sequence, from embeddings
    /// `[sequences, hidden]` and positions `[sequences]`. Sequences lie in the order of `groups`.
    pub(crate) fn forward(
        &self,
        embeddings: Tensor,
        positions: &Tensor,
        groups: &[StepGroups<'_>],
    ) -> Result<Tensor> {
        let table = |t: &Tensor| -> Result<Tensor> { Ok(t.f_index_select(0, positions)?.f_unsqueeze(1)?) };
        let rope = (table(&self.cos)?, table(&self.sin)?);
        let masks = groups.iter().map(|group| self.mask(group)).collect::<Result<Vec<_>>>()?;
        let mut x = embeddings;
        for (index, layer) in self.layers.iter().enumerate() {
            let attended =
                self.attention(index, layer, &layer.input_norm.forward(&x)?, &rope, groups, &masks)?;
            x = layer.out.add_to(&x, &attended)?;
            let both = layer.gate_up.forward(&layer.post_norm.forward(&x)?)?;
            let gate = self.activation.forward(&both.f_narrow(1, 0, self.inner)?)?;
            x = layer.down.add_to(&x, &gate.f_mul(&both.f_narrow(1, self.inner, self.inner)?)?)?;
        }
        self.norm.forward(&x)
    }

    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        x: &Tensor,
        (cos, sin): &(Tensor, Tensor),
        groups: &[StepGroups<'_>],
        masks: &[Tensor],
    ) -> Result<Tensor> {
        let (sequences, turned) = (x.size()[0], self.heads + self.kv_heads);
        let qkv = layer.qkv.forward(x)?.f_view([sequences, turned + self.kv_heads, self.head_dim])?;
        let mut qk = qkv.f_narrow(1, 0, turned)?;
        if let Some(scales) = &layer.head_scales {
            qk = qk.f_rms_norm([self.head_dim], None::<&Tensor>, self.head_eps)?.f_mul(scales)?;
        }
        let half = self.head_dim / 2;
        let qk = qk.f_mul(cos)?.f_addcmul(&qk.f_roll([half], [2])?, sin)?;
        let keys = qk.f_narrow(1, self.heads, self.kv_heads)?;
        let new = Tensor::f_cat(&[keys, qkv.f_narrow(1, turned, self.kv_heads)?], 1)?;
        let (mut start, mut attended) = (0, Vec::with_capacity(groups.len()));
        for (group, mask) in groups.iter().zip(masks) {
            let count = group.cache.sequences();
            let rows = new.f_narrow(0, start, count)?.f_view([-1, self.head_dim])?;
            group.cache.write(index, &group.rows, &rows)?;
            let query = qk.f_narrow(0, start, count)?.f_narrow(1, 0, self.heads)?;
            attended.push(self.group_attention(
                &query,
                group,
                mask,
                group.cache.operands(index, group.span)?,
            )?);
            start += count;
        }
        match attended.len() {
            1 => Ok(attended.swap_remove(0)),
            _ => Ok(Tensor::f_cat(&attended, 0)?),
        }
    }

    /// Computes attention of queries `[sequences, heads, head_dim]`; returns `[sequences, heads * head_dim]`. Scores of
    /// a group's prefix are one product for its sequences, and one call covers all groups.
    fn group_attention(
        &self,
        query: &Tensor,
        group: &StepGroups<'_>,
        mask: &Tensor,
        operands: GroupOperands,
    ) -> Result<Tensor> {
        let (groups, rows) = (group.cache.groups(), group.cache.shape().rows);
        let (kv, width, span) = (self.kv_heads, self.head_dim, group.span);
        let share = self.heads / kv;
        // Query heads that share a key head are rows of one product; with the prefix, so are sequences.
        let by_head =
            query.f_reshape([groups, rows, kv, share, width])?.f_transpose(1, 2)?.f_contiguous()?;
        let scale = (width as f64).sqrt().recip();
        let [own_keys, own_values] = operands.own;
        let single = by_head.f_view([groups * kv * rows, share, width])?;
        let own = mask.f_baddbmm(&single, &own_keys.f_transpose(1, 2)?, 1.0, scale)?;
        let all = match &operands.prefix {
            None => own.f_softmax(-1, None)?.f_bmm(&own_values)?,
            Some([keys, values]) => {
                let prefix = keys.size()[1];
                let together = by_head.f_view([groups * kv, rows * share, width])?;
                let shared = self.zero.f_baddbmm(&together, &keys.f_transpose(1, 2)?, 0.0, scale)?;
                let own = own.f_view([groups * kv, rows * share, span])?;
                let weights = Tensor::f_cat(&[shared, own], 2)?.f_softmax(-1, None)?;
                let shared = weights.f_narrow(2, 0, prefix)?.f_bmm(values)?;
                let own =
                    weights.f_narrow(2, prefix, span)?.f_reshape([groups * kv * rows, share, span])?;
                shared.f_view([groups * kv * rows, share, width])?.f_baddbmm(&own, &own_values, 1, 1)?
            }
        };
        let all = all.f_view([groups, kv, rows, share, width])?.f_transpose(1, 2)?;
        Ok(all.f_reshape([groups * rows, self.heads * width])?)
    }

    /// Returns the additive mask of own tokens, `[groups * kv_heads * rows, 1, span]`.
    fn mask(&self, group: &StepGroups<'_>) -> Result<Tensor> {
        let tokens = Tensor::f_arange(group.span, (Kind::Int64, self.device))?;
        let (groups, rows) = (group.cache.groups(), group.cache.shape().rows);
        let lengths = group.lengths.f_view([groups, 1, rows, 1])?;
        let behind = tokens.f_view([1, 1, 1, -1])?.f_ge_tensor(&lengths)?;
        let mask = Tensor::f_zeros([groups, 1, rows, group.span], (self.kind, self.device))?
            .f_masked_fill(&behind, f64::NEG_INFINITY)?;
        let mask = mask.f_expand([groups, self.kv_heads, rows, group.span], false)?;
        Ok(mask.f_reshape([groups * self.kv_heads * rows, 1, group.span])?)
    }
}

impl FusedLinear {
    /// Takes `{fused}.weight` and `.bias`, and the adapters of the layers `parts`.
    fn new(weights: &Weights, fused: &str, parts: &[String]) -> Result<Self> {
        let (mut adapters, mut first) = (Vec::new(), 0);
        for part in parts {
            let weight = weights.get(&format!("{part}.weight"))?;
            let out = weight.size()[0];
            if let Some(lora) = weights.lora(part, &weight)? {
                adapters.push((lora, first, out));
            }
            first += out;
        }
        let weight = format!("{fused}.weight");
        let weight = weights.fused(&weight).map_or_else(|| weights.get(&weight), Ok)?;
        let bias = format!("{fused}.bias");
        let bias = weights.fused(&bias).or_else(|| weights.find(&bias));
        Ok(Self { weight, bias, adapters, low_rank: None })
    }

    fn refresh(&mut self, kind: Kind) -> Result<()> {
        if self.adapters.is_empty() {
            return Ok(());
        }
        let out = self.weight.size()[0];
        let (mut inward, mut outward) = (Vec::new(), Vec::new());
        for (lora, first, count) in &self.adapters {
            let [a, b] = lora.matrices()?;
            let wide = Tensor::f_zeros([a.size()[0], out], (kind, a.device()))?;
            wide.f_narrow(1, *first, *count)?.f_copy_(&b.f_transpose(0, 1)?)?;
            inward.push(a.f_transpose(0, 1)?.f_to_kind(kind)?);
            outward.push(wide);
        }
        self.low_rank = Some([Tensor::f_cat(&inward, 1)?, Tensor::f_cat(&outward, 0)?]);
        Ok(())
    }

    /// Applies the layers to `[sequences, in]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.f_linear(&self.weight, self.bias.as_ref())?;
        self.adapt(y, x)
    }

    /// Applies the layer, and adds the outcome to `base` `[sequences, out]`.
    fn add_to(&self, base: &Tensor, x: &Tensor) -> Result<Tensor> {
        let y = base.f_addmm(x, &self.weight.f_transpose(0, 1)?)?;
        let y = match &self.bias {
            Some(bias) => y.f_add(bias)?,
            None => y,
        };
        self.adapt(y, x)
    }

    fn adapt(&self, y: Tensor, x: &Tensor) -> Result<Tensor> {
        match &self.low_rank {
            Some([inward, outward]) => Ok(y.f_addmm(&x.f_mm(inward)?, outward)?),
            None => Ok(y),
        }
    }
}
