//! Decoding step of all sequences at once. The number of operations does not depend on how many prompts and sequences
//! are in it, which is what a GPU needs: there a step of small operations is bound by their launches.
//!
//! Results are those of [`Decoder::forward`](super::decoder::Decoder::forward) with another order of sums, and depend on
//! what else is in the batch by rounding.

use tch::{Device, Kind, Tensor};

use super::activation::Activation;
use super::attention_kernels::{Attended, AttentionKernels, Heads, OwnLengths};
use super::experts::Experts;
use super::group_cache::{GroupCache, GroupShape};
use super::layers::RmsNorm;
use super::linear_weight::LinearWeight;
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
    heads: Heads,
    kernels: AttentionKernels,
    head_eps: f64,
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
    mlp: FusedMlp,
}

/// MLP of a layer.
#[allow(clippy::large_enum_variant, reason = "there is one a layer")]
enum FusedMlp {
    /// SwiGLU with an intermediate size, its gate and up projections side by side.
    Dense { gate_up: FusedLinear, down: FusedLinear, activation: Activation, inner: i64 },
    /// Experts, of which each token goes through a few.
    Sparse(Experts),
}

/// Linear layers of one input, side by side.
struct FusedLinear {
    /// `[out, in]`.
    weight: LinearWeight,
    bias: Option<Tensor>,
    /// Adapters, with the first output and the number of outputs of their layers.
    adapters: Vec<(Lora, i64, i64)>,
    /// Adapters as two matrices, `[in, ranks]` and `[ranks, out]`.
    low_rank: Option<[Tensor; 2]>,
    /// Factors of DoRA for the outputs before the bias, `[out]` in float32; `None` of other adapters.
    factors: Option<Tensor>,
}

/// Sequences of a step that share a [`GroupCache`], and where their tokens go.
pub(crate) struct StepGroups<'a> {
    pub(crate) cache: &'a GroupCache,
    /// Places of the new keys and values, `[sequences]`; see [`GroupCache::write`].
    pub(crate) places: Tensor,
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
                mlp: match config.experts_of(index) {
                    Some(experts) => {
                        FusedMlp::Sparse(Experts::new(weights, &at("mlp"), experts, config.hidden_act)?)
                    }
                    None => FusedMlp::Dense {
                        gate_up: fused(1)?,
                        down: single("mlp.down_proj")?,
                        activation: config.hidden_act,
                        inner: config.intermediate_size,
                    },
                },
            })
        };
        let (cos, sin) = rotary_tables(config, kind, device)?;
        let half = config.head_dim() / 2;
        let sin = Tensor::f_cat(&[sin.f_narrow(1, 0, half)?.f_neg()?, sin.f_narrow(1, half, half)?], 1)?;
        let heads =
            Heads { query: config.num_attention_heads, kv: config.kv_heads(), dim: config.head_dim() };
        Ok(Self {
            layers: (0..config.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: RmsNorm::new(weights, "language_model.model.norm", config.rms_norm_eps)?,
            cos,
            sin,
            heads,
            kernels: AttentionKernels::choose(heads, (kind, device))?,
            head_eps: config.rms_norm_eps,
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
            layer.qkv.refresh(kind)?;
            layer.out.refresh(kind)?;
            if let FusedMlp::Dense { gate_up, down, .. } = &mut layer.mlp {
                gate_up.refresh(kind)?;
                down.refresh(kind)?;
            }
            if let Some([query, key]) = &layer.head_norms {
                let by_head = |t: &Tensor, heads: i64| -> Result<Tensor> {
                    Ok(t.f_detach()?.f_unsqueeze(0)?.f_expand([heads, self.heads.dim], false)?)
                };
                let all = [by_head(query, self.heads.query)?, by_head(key, self.heads.kv)?];
                layer.head_scales = Some(Tensor::f_cat(&all, 0)?);
            }
        }
        self.is_current = true;
        Ok(())
    }

    /// Creates a cache without groups.
    pub(crate) fn cache(&self, shape: GroupShape) -> Result<GroupCache> {
        let heads = (self.heads.kv, self.heads.dim);
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
        let lengths = groups.iter().map(|StepGroups { cache, lengths, span, .. }| {
            self.kernels.lengths(lengths, cache.capacity(), *span, self.kind)
        });
        let lengths = lengths.collect::<Result<Vec<_>>>()?;
        let mut x = embeddings;
        for (index, layer) in self.layers.iter().enumerate() {
            let attended =
                self.attention(index, layer, &layer.input_norm.forward(&x)?, &rope, groups, &lengths)?;
            x = layer.out.add_to(&x, &attended)?;
            x = layer.mlp.add_to(&x, &layer.post_norm.forward(&x)?)?;
        }
        self.norm.forward(&x)
    }

    /// Computes attention of hidden states `[sequences, hidden]`, `[sequences, heads * head_dim]`.
    fn attention(
        &self,
        index: usize,
        layer: &Layer,
        x: &Tensor,
        (cos, sin): &(Tensor, Tensor),
        groups: &[StepGroups<'_>],
        lengths: &[OwnLengths],
    ) -> Result<Tensor> {
        let Heads { query, kv, dim } = self.heads;
        let (sequences, turned) = (x.size()[0], query + kv);
        let qkv = layer.qkv.forward(x)?.f_view([sequences, turned + kv, dim])?;
        let mut qk = qkv.f_narrow(1, 0, turned)?;
        if let Some(scales) = &layer.head_scales {
            qk = qk.f_rms_norm([dim], None::<&Tensor>, self.head_eps)?.f_mul(scales)?;
        }
        let qk = qk.f_mul(cos)?.f_addcmul(&qk.f_roll([dim / 2], [2])?, sin)?;
        let new = Tensor::f_cat(&[qk.f_narrow(1, query, kv)?, qkv.f_narrow(1, turned, kv)?], 1)?;
        let queries = qk.f_narrow(1, 0, query)?;
        let (mut start, mut attended) = (0, Vec::with_capacity(groups.len()));
        for (group, lengths) in groups.iter().zip(lengths) {
            let count = group.cache.sequences();
            group.cache.write(index, &group.places, &new.f_narrow(0, start, count)?)?;
            attended.push(self.group_attention(
                index,
                &queries.f_narrow(0, start, count)?,
                group,
                lengths,
            )?);
            start += count;
        }
        match attended.len() {
            1 => Ok(attended.swap_remove(0)),
            _ => Ok(Tensor::f_cat(&attended, 0)?),
        }
    }

    /// Computes attention of queries `[sequences, heads, head_dim]`, `[sequences, heads * head_dim]`: one call for the
    /// prefixes of all groups, one for the own tokens of all sequences.
    fn group_attention(
        &self,
        index: usize,
        queries: &Tensor,
        group: &StepGroups<'_>,
        lengths: &OwnLengths,
    ) -> Result<Tensor> {
        let operands = group.cache.operands(index)?;
        let own = self.kernels.own(queries, &operands.own, lengths)?;
        let all = match &operands.prefix {
            None => own.values,
            Some(prefix) => {
                let (groups, rows) = (group.cache.groups(), group.cache.shape().rows);
                let Heads { query, kv, dim } = self.heads;
                let share = query / kv;
                let queries = queries.f_view([groups, rows, query, dim])?;
                let own = Attended {
                    values: own.values.f_view([groups, rows, kv, share, dim])?,
                    sums: own.sums.f_view([groups, rows, kv, share])?,
                };
                self.kernels.prefix(&queries, prefix)?.merged(&own)?
            }
        };
        Ok(all.f_reshape([group.cache.sequences(), self.heads.query * self.heads.dim])?)
    }
}

impl FusedMlp {
    /// Applies the layer to `[sequences, hidden]`, and adds the outcome to `base`.
    fn add_to(&self, base: &Tensor, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Dense { gate_up, down, activation, inner } => {
                let both = gate_up.forward(x)?;
                let gate = activation.forward(&both.f_narrow(1, 0, *inner)?)?;
                down.add_to(base, &gate.f_mul(&both.f_narrow(1, *inner, *inner)?)?)
            }
            Self::Sparse(experts) => Ok(base.f_add(&experts.forward(x)?)?),
        }
    }
}

impl FusedLinear {
    /// Takes `{fused}.weight` and `.bias`, and the adapters of the layers `parts`.
    fn new(weights: &Weights, fused: &str, parts: &[String]) -> Result<Self> {
        let (mut adapters, mut first) = (Vec::new(), 0);
        for part in parts {
            let weight = weights.linear(&format!("{part}.weight"))?;
            let [out, _] = weight.shape()?;
            if let Some(lora) = weights.lora(part, &weight)? {
                adapters.push((lora, first, out));
            }
            first += out;
        }
        let weight = format!("{fused}.weight");
        let weight = match weights.fused(&weight) {
            Some(weight) => LinearWeight::Dense(weight),
            None => weights.stacked(parts)?,
        };
        let bias = format!("{fused}.bias");
        let bias = weights.fused(&bias).or_else(|| weights.find(&bias));
        Ok(Self { weight, bias, adapters, low_rank: None, factors: None })
    }

    fn refresh(&mut self, kind: Kind) -> Result<()> {
        if self.adapters.is_empty() {
            return Ok(());
        }
        let [out, _] = self.weight.shape()?;
        let (mut inward, mut outward, mut scaled) = (Vec::new(), Vec::new(), None);
        for (lora, first, count) in &self.adapters {
            let [a, b] = lora.matrices()?;
            let wide = Tensor::f_zeros([a.size()[0], out], (kind, a.device()))?;
            wide.f_narrow(1, *first, *count)?.f_copy_(&b.f_transpose(0, 1)?)?;
            if let Some(factors) =
                lora.factors(&|| Ok(self.weight.dense()?.f_narrow(0, *first, *count)?))?
            {
                let all = scaled.map_or_else(|| Tensor::f_ones([out], (Kind::Float, a.device())), Ok)?;
                all.f_narrow(0, *first, *count)?.f_copy_(&factors)?;
                scaled = Some(all);
            }
            inward.push(a.f_transpose(0, 1)?.f_to_kind(kind)?);
            outward.push(wide);
        }
        self.low_rank = Some([Tensor::f_cat(&inward, 1)?, Tensor::f_cat(&outward, 0)?]);
        self.factors = scaled;
        Ok(())
    }

    /// Applies the layers to `[sequences, in]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(factors) = &self.factors {
            return self.scaled(x, factors);
        }
        let y = x.f_linear(&self.weight.dense()?, self.bias.as_ref())?;
        self.adapt(y, x)
    }

    /// Applies layers whose adapted outputs are scaled.
    fn scaled(&self, x: &Tensor, factors: &Tensor) -> Result<Tensor> {
        let y = self.adapt(x.f_linear(&self.weight.dense()?, None::<&Tensor>)?, x)?.f_mul(factors)?;
        let y = match &self.bias {
            Some(bias) => y.f_add(bias)?,
            None => y,
        };
        Ok(y.f_to_kind(x.kind())?)
    }

    /// Applies the layer, and adds the outcome to `base` `[sequences, out]`.
    fn add_to(&self, base: &Tensor, x: &Tensor) -> Result<Tensor> {
        if let Some(factors) = &self.factors {
            return Ok(base.f_add(&self.scaled(x, factors)?)?);
        }
        let y = base.f_addmm(x, &self.weight.dense()?.f_transpose(0, 1)?)?;
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::rc::Rc;

    use super::*;
    use crate::model::decoder::{AttentionMode, Inputs};
    use crate::model::{Decoding, VideoLmm};
    use crate::operators::dispatched;

    /// Names of the operations that one layer adds to a step of some groups of `rows` sequences, and of those of a step
    /// without layers.
    fn operations(family: &str, kind: Kind, groups: i64, rows: i64) -> [Vec<String>; 2] {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/golden/tiny_{family}"));
        let mut model =
            VideoLmm::load_for(&folder, None, kind, Device::Cpu, Decoding::Fused, None).unwrap();
        let mut step = model.fused.take().unwrap();
        let extend = |cache: &mut _, tokens: &[i64]| {
            let inputs: Inputs = model.embed_tokens(tokens, 0).unwrap();
            let _ = model.decoder.forward(&inputs, AttentionMode::Extend(cache)).unwrap();
        };
        let mut prompt = model.decoder.cache(None, 16).unwrap();
        extend(&mut prompt, &[5; 16]);
        prompt.advance(16);
        let prefix = Rc::new(prompt.into_prefix());
        let mut own = model.decoder.cache(Some(prefix), 3).unwrap();
        extend(&mut own, &[7; 3]);
        own.advance(3);
        let mut cache = step.cache(GroupShape::of(&own, rows)).unwrap();
        for _ in 0..groups {
            assert_eq!(cache.push(&own).unwrap(), 3);
        }
        cache.reserve_tokens(16).unwrap();
        let sequences = cache.sequences();
        step.refresh().unwrap();
        let all = Tensor::full([sequences], 3, (Kind::Int64, Device::Cpu));
        let embeddings = model.embed_ids(&all).unwrap();
        let mut of_layers = |count: usize| {
            step.layers.truncate(count);
            let places = Tensor::arange(sequences, (Kind::Int64, Device::Cpu)) * cache.capacity() + 3;
            let group = StepGroups { cache: &cache, places, lengths: &all + 1, span: 16 };
            dispatched(|| {
                let _ = step.forward(embeddings.shallow_clone(), &all, &[group]).unwrap();
            })
        };
        let [two, one, none] = [2, 1, 0].map(&mut of_layers);
        assert_eq!(two.len() - one.len(), one.len() - none.len(), "{family}");
        // A layer's operations stand before the last norm.
        let begin = none.len() - 1;
        [one[begin..one.len() - 1].to_vec(), none]
    }

    /// The cost of a small step on a GPU is that of launching its operations.
    #[test]
    fn a_layer_is_22_operations_whatever_the_number_of_sequences() {
        let families = ["llava", "video_llava", "llava_next_video", "qwen2_vl", "qwen2_5_vl", "qwen3_vl"];
        for (family, kind) in families.into_iter().flat_map(|f| [(f, Kind::Float), (f, Kind::BFloat16)]) {
            for (groups, rows) in [(1, 1), (1, 8), (4, 2), (8, 1), (32, 2), (64, 1)] {
                let [layer, rest] = operations(family, kind, groups, rows);
                let (count, beside) = (layer.len(), rest.len());
                println!("{family} {kind:?}, {groups} groups of {rows}: {count} a layer, {beside} beside");
                assert!(count <= 22, "{family}, {groups} groups of {rows}: {layer:?}");
                assert!(beside <= 10, "{family}: {rest:?}");
            }
        }
    }
}
