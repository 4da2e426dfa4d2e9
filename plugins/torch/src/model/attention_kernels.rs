//! Kernels for the attention of a fused decoding step: over prefixes that sequences share, and over each sequence's own
//! tokens. Both return the log-sum-exp of their scores, by which they are merged.

use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::operators::{self, Kernel, Ragged};

/// Kernels that work for a device, a dtype and the sizes of a model.
pub(super) struct AttentionKernels {
    prefix: Method,
    own: Method,
    heads: Heads,
}

/// Numbers and size of a model's heads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heads {
    pub(super) query: i64,
    pub(super) kv: i64,
    pub(super) dim: i64,
}

/// Way to compute attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// Flash attention with the numbers of each sequence's keys; own tokens only.
    Ragged,
    /// Kernel with a mask where lengths differ.
    Fused(Kernel),
    /// Two products and a softmax, on any device.
    Products,
}

/// Keys of each sequence, in the form that the kernel takes.
pub(super) enum OwnLengths {
    Ragged(Ragged),
    /// Additive mask `[sequences, 1, 1, span]`.
    Mask(Tensor),
}

/// Attention with the log-sum-exp of its scores.
pub(super) struct Attended {
    /// `[.., head_dim]`.
    pub(super) values: Tensor,
    /// Float32 `[..]`.
    pub(super) sums: Tensor,
}

impl AttentionKernels {
    /// Chooses the first kernel of each kind that computes the right numbers on small input.
    pub(super) fn choose(heads: Heads, options: (Kind, Device)) -> Result<Self> {
        let (kind, device) = options;
        let (mut prefix, mut own) = (Vec::new(), Vec::new());
        match device {
            Device::Cpu => {
                prefix.push(Method::Fused(Kernel::Cpu));
                own.push(Method::Fused(Kernel::Cpu));
            }
            _ => {
                if kind != Kind::Float {
                    prefix.push(Method::Fused(Kernel::CuDnn));
                    own.push(Method::Ragged);
                }
                prefix.push(Method::Fused(Kernel::Efficient));
                own.push(Method::Fused(Kernel::Efficient));
            }
        }
        let mut kernels = Self { prefix: Method::Products, own: Method::Products, heads };
        tch::no_grad(|| -> Result<()> {
            let trial = Trial::new(heads, options)?;
            kernels.prefix = first(&prefix, "shared prefixes", |method| {
                trial.check_prefix(&Self { prefix: method, ..kernels })
            });
            kernels.own =
                first(&own, "own tokens", |method| trial.check_own(&Self { own: method, ..kernels }));
            Ok(())
        })?;
        tracing::debug!(prefix = ?kernels.prefix, own = ?kernels.own, "attention of decoding steps");
        Ok(kernels)
    }

    /// Brings own tokens' numbers `[sequences]`, int64, into the kernel's form. Sequences lie `capacity` tokens apart, and
    /// `span` bounds the numbers.
    pub(super) fn lengths(
        &self,
        lengths: &Tensor,
        capacity: i64,
        span: i64,
        kind: Kind,
    ) -> Result<OwnLengths> {
        let (count, device) = (lengths.size()[0], lengths.device());
        if self.own == Method::Ragged {
            let places = Tensor::f_arange(count + 1, (Kind::Int, device))?;
            let begin = places.f_mul_scalar(capacity)?;
            let used = lengths.f_to_kind(Kind::Int)?;
            return Ok(OwnLengths::Ragged(Ragged { query_begin: places, begin, used, longest: span }));
        }
        let tokens = Tensor::f_arange(span, (Kind::Int64, device))?;
        let behind = tokens.f_view([1, span])?.f_ge_tensor(&lengths.f_view([count, 1])?)?;
        let mask = Tensor::f_zeros([count, span], (kind, device))?;
        let mask = mask.f_masked_fill(&behind, f64::NEG_INFINITY)?;
        Ok(OwnLengths::Mask(mask.f_view([count, 1, 1, span])?))
    }

    /// Computes attention of queries `[groups, rows, heads, head_dim]` over keys and values
    /// `[groups, kv_heads, prefix, head_dim]`. Returns it as `[groups, rows, kv_heads, share, head_dim]`, where `share` query
    /// heads have one key head.
    pub(super) fn prefix(&self, query: &Tensor, keys_values: &[Tensor; 2]) -> Result<Attended> {
        let Heads { query: heads, kv, dim } = self.heads;
        let (share, size) = (heads / kv, query.size());
        let (groups, rows) = (size[0], size[1]);
        // Query heads that share a key head, and rows, are rows of one product.
        let query = query.f_view([groups, rows, kv, share, dim])?.f_transpose(1, 2)?;
        let query = query.f_reshape([groups, kv, rows * share, dim])?;
        let [values, sums] = self.call(self.prefix, &query, keys_values.each_ref(), None)?;
        Ok(Attended {
            values: values.f_reshape([groups, kv, rows, share, dim])?.f_transpose(1, 2)?,
            sums: sums.f_reshape([groups, kv, rows, share])?.f_transpose(1, 2)?,
        })
    }

    /// Computes attention of queries `[sequences, heads, head_dim]` over own keys and values
    /// `[sequences, capacity, kv_heads, head_dim]`. Returns it as `[sequences, kv_heads, share, head_dim]`.
    pub(super) fn own(
        &self,
        query: &Tensor,
        keys_values: &[Tensor; 2],
        lengths: &OwnLengths,
    ) -> Result<Attended> {
        let Heads { query: heads, kv, dim } = self.heads;
        let (share, sequences) = (heads / kv, query.size()[0]);
        let [values, sums] = match lengths {
            OwnLengths::Ragged(ragged) => {
                let [keys, values] = keys_values.each_ref().map(|t| t.f_flatten(0, 1));
                let [values, sums] =
                    operators::ragged_attention(query, [&keys?, &values?], ragged, self.scale())?;
                // `[heads, sequences]`, or `[sequences, heads, 1]`.
                let sums = if sums.dim() == 2 { sums.f_transpose(0, 1)? } else { sums.f_squeeze_dim(2)? };
                [values, sums]
            }
            OwnLengths::Mask(mask) => {
                let span = mask.size()[3];
                let [keys, values] =
                    keys_values.each_ref().map(|t| t.f_narrow(1, 0, span)?.f_transpose(1, 2));
                let query = query.f_view([sequences, kv, share, dim])?;
                let mask = mask.f_expand([sequences, kv, share, span], false)?;
                self.call(self.own, &query, [&keys?, &values?], Some(&mask))?
            }
        };
        Ok(Attended {
            values: values.f_view([sequences, kv, share, dim])?,
            sums: sums.f_reshape([sequences, kv, share])?,
        })
    }

    fn call(
        &self,
        method: Method,
        query: &Tensor,
        keys_values: [&Tensor; 2],
        mask: Option<&Tensor>,
    ) -> Result<[Tensor; 2]> {
        match method {
            Method::Fused(kernel) => operators::attention(kernel, query, keys_values, mask, self.scale()),
            Method::Products | Method::Ragged => products(query, keys_values, mask, self.scale()),
        }
    }

    fn scale(&self) -> f64 {
        (self.heads.dim as f64).sqrt().recip()
    }
}

impl Attended {
    /// Merges attention over two sets of keys into that over both. Shapes may differ by strides.
    pub(super) fn merged(&self, other: &Self) -> Result<Tensor> {
        let weight = self.sums.f_sub(&other.sums)?.f_sigmoid()?.f_to_kind(self.values.kind())?;
        Ok(other.values.f_lerp_tensor(&self.values, &weight.f_unsqueeze(-1)?)?)
    }
}

/// Computes attention by two products and a softmax; arguments and results are those of [`operators::attention`].
fn products(
    query: &Tensor,
    [keys, values]: [&Tensor; 2],
    mask: Option<&Tensor>,
    scale: f64,
) -> Result<[Tensor; 2]> {
    let scores = query.f_matmul(&keys.f_transpose(2, 3)?)?.f_to_kind(Kind::Float)?.f_mul_scalar(scale)?;
    let scores = mask.map_or_else(|| Ok(scores.shallow_clone()), |mask| scores.f_add(mask))?;
    let sums = scores.f_logsumexp([-1], true)?;
    let weights = scores.f_sub(&sums)?.f_exp()?.f_to_kind(query.kind())?;
    Ok([weights.f_matmul(values)?, sums.f_squeeze_dim(-1)?])
}

/// Returns the first method that passes `check`, else products.
fn first(methods: &[Method], what: &str, check: impl Fn(Method) -> Result<()>) -> Method {
    for &method in methods {
        match check(method) {
            Ok(()) => return method,
            Err(error) => {
                tracing::info!(?method, %error, "decoding steps do without this kernel for the attention to {what}");
            }
        }
    }
    Method::Products
}

/// Small input of both kinds of attention, with the right numbers.
struct Trial {
    query: Tensor,
    prefix: [Tensor; 2],
    own: [Tensor; 2],
    lengths: Tensor,
    kind: Kind,
}

impl Trial {
    const GROUPS: i64 = 2;
    const ROWS: i64 = 3;
    const PREFIX: i64 = 24;
    const CAPACITY: i64 = 32;
    const SPAN: i64 = 16;

    /// Fills tensors with numbers that differ by place: no draw of libtorch's own stream.
    fn new(heads: Heads, (kind, device): (Kind, Device)) -> Result<Self> {
        let fill = |shape: &[i64], step: f64| -> Result<Tensor> {
            let count = shape.iter().product::<i64>();
            let values =
                Tensor::f_arange(count, (Kind::Double, Device::Cpu))?.f_mul_scalar(step)?.f_sin()?;
            Ok(values.f_view(shape)?.f_to_kind(kind)?.f_to_device(device)?)
        };
        let sequences = Self::GROUPS * Self::ROWS;
        let shared = [Self::GROUPS, heads.kv, Self::PREFIX, heads.dim];
        let own = fill(&[sequences, Self::CAPACITY, 2 * heads.kv, heads.dim], 0.61)?;
        let lengths: Vec<i64> = (0..sequences).map(|index| 1 + index * 3).collect();
        Ok(Self {
            query: fill(&[sequences, heads.query, heads.dim], 0.37)?,
            prefix: [fill(&shared, 0.71)?, fill(&shared, 0.53)?],
            own: [own.f_narrow(2, 0, heads.kv)?, own.f_narrow(2, heads.kv, heads.kv)?],
            lengths: Tensor::f_from_slice(&lengths)?.f_to_device(device)?,
            kind,
        })
    }

    fn check_prefix(&self, kernels: &AttentionKernels) -> Result<()> {
        let query =
            self.query.f_view([Self::GROUPS, Self::ROWS, kernels.heads.query, kernels.heads.dim])?;
        self.check(
            kernels.prefix(&query, &self.prefix)?,
            |exact| exact.prefix(&query, &self.prefix),
            kernels,
        )
    }

    fn check_own(&self, kernels: &AttentionKernels) -> Result<()> {
        let own = |kernels: &AttentionKernels| {
            let lengths = kernels.lengths(&self.lengths, Self::CAPACITY, Self::SPAN, self.kind)?;
            kernels.own(&self.query, &self.own, &lengths)
        };
        self.check(own(kernels)?, own, kernels)
    }

    /// Compares with products.
    fn check(
        &self,
        found: Attended,
        compute: impl FnOnce(&AttentionKernels) -> Result<Attended>,
        kernels: &AttentionKernels,
    ) -> Result<()> {
        let heads = kernels.heads;
        let right = compute(&AttentionKernels { prefix: Method::Products, own: Method::Products, heads })?;
        let tolerance = if self.kind == Kind::Float { 1e-4 } else { 3e-2 };
        for (found, right) in [(found.values, right.values), (found.sums, right.sums)] {
            let difference = found.f_sub(&right)?.f_to_kind(Kind::Float)?.f_abs()?.f_max()?;
            let difference = f64::try_from(&difference)?;
            if difference.is_nan() || difference > tolerance {
                return Err(TorchError::Engine(format!("its numbers are off by {difference}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a CPU has, in both dtypes, with and without shared key heads; wrong numbers are seen.
    #[test]
    fn kernels_are_tried_before_they_are_used() {
        for (query, kv, dim) in [(4, 4, 16), (8, 2, 32), (3, 1, 8)] {
            let heads = Heads { query, kv, dim };
            for kind in [Kind::Float, Kind::BFloat16] {
                let kernels = AttentionKernels::choose(heads, (kind, Device::Cpu)).unwrap();
                assert_eq!(kernels.prefix, Method::Fused(Kernel::Cpu), "{heads:?} {kind:?}");
                assert_eq!(kernels.own, Method::Fused(Kernel::Cpu), "{heads:?} {kind:?}");
                let trial = Trial::new(heads, (kind, Device::Cpu)).unwrap();
                for absent in [Method::Ragged, Method::Fused(Kernel::CuDnn)] {
                    let kernels = AttentionKernels { prefix: Method::Products, own: absent, heads };
                    assert!(trial.check_own(&kernels).is_err(), "{absent:?}");
                }
                let query = &trial.query;
                let wrong = Attended { values: query.shallow_clone(), sums: query.select(2, 0) };
                let right = |_: &AttentionKernels| {
                    Ok(Attended { values: query.f_mul_scalar(2)?, sums: query.f_select(2, 0)? })
                };
                assert!(trial.check(wrong, right, &kernels).is_err());
            }
        }
    }
}
