//! Kernels for the attention of a fused decoding step: over prefixes that sequences share, and over each sequence's own
//! tokens. Both return the log-sum-exp of their scores, by which they are merged.

use std::cell::Cell;

use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::operators::{self, Kernel, Ragged};

/// Kernels that work for a device, a dtype and the sizes of a model. One that fails later gives way to products.
pub(super) struct AttentionKernels {
    /// For a single query that shares its keys, and for several.
    prefix: [Cell<Method>; 2],
    own: Cell<Method>,
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
        let trial = Trial::new(heads, options)?;
        let kernels = tch::no_grad(|| {
            let of_prefixes = |rows| first(&prefix, "shared prefixes", |method| trial.prefix(rows, method));
            Self {
                prefix: [1, Trial::ROWS].map(|rows| Cell::new(of_prefixes(rows))),
                own: Cell::new(first(&own, "own tokens", |method| trial.own(method))),
                heads,
            }
        });
        let [one, several] = kernels.prefix.each_ref().map(Cell::get);
        tracing::debug!(?one, ?several, own = ?kernels.own.get(), "attention of decoding steps");
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
        OwnLengths::new(self.own.get(), lengths, capacity, span, kind)
    }

    /// Computes attention of queries `[groups, rows, heads, head_dim]` over keys and values
    /// `[groups, kv_heads, prefix, head_dim]`. Returns it as `[groups, rows, kv_heads, share, head_dim]`, where `share` query
    /// heads have one key head.
    pub(super) fn prefix(&self, query: &Tensor, keys_values: &[Tensor; 2]) -> Result<Attended> {
        let several = query.size()[1] * self.heads.share() > 1;
        or_products(&self.prefix[usize::from(several)], |method| {
            self.heads.attend_prefix(method, query, keys_values)
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
        or_products(&self.own, |method| self.heads.attend_own(method, query, keys_values, lengths))
    }
}

/// Computes by a method; where it fails for another reason than memory, by products from then on.
fn or_products<T>(method: &Cell<Method>, compute: impl Fn(Method) -> Result<T>) -> Result<T> {
    match compute(method.get()) {
        Err(error) if method.get() != Method::Products && !error.is_out_of_memory() => {
            tracing::warn!(method = ?method.get(), %error, "an attention kernel failed; products take its place");
            method.set(Method::Products);
            compute(Method::Products)
        }
        outcome => outcome,
    }
}

impl Heads {
    /// Query heads that share a key head.
    fn share(self) -> i64 {
        self.query / self.kv
    }

    fn scale(self) -> f64 {
        (self.dim as f64).sqrt().recip()
    }

    fn attend_prefix(self, method: Method, query: &Tensor, keys_values: &[Tensor; 2]) -> Result<Attended> {
        let (Self { kv, dim, .. }, share, size) = (self, self.share(), query.size());
        let (groups, rows) = (size[0], size[1]);
        // Query heads that share a key head, and rows, are rows of one product.
        let query = query.f_view([groups, rows, kv, share, dim])?.f_transpose(1, 2)?;
        let query = query.f_reshape([groups, kv, rows * share, dim])?;
        let [values, sums] = self.call(method, &query, keys_values.each_ref(), None)?;
        Ok(Attended {
            values: values.f_reshape([groups, kv, rows, share, dim])?.f_transpose(1, 2)?,
            sums: sums.f_reshape([groups, kv, rows, share])?.f_transpose(1, 2)?,
        })
    }

    fn attend_own(
        self,
        method: Method,
        query: &Tensor,
        keys_values: &[Tensor; 2],
        lengths: &OwnLengths,
    ) -> Result<Attended> {
        let (Self { kv, dim, .. }, share, sequences) = (self, self.share(), query.size()[0]);
        let [values, sums] = match (lengths, method) {
            (OwnLengths::Ragged(ragged), Method::Ragged) => {
                let [keys, values] = keys_values.each_ref().map(|t| t.f_flatten(0, 1));
                let [values, sums] =
                    operators::ragged_attention(query, [&keys?, &values?], ragged, self.scale())?;
                // `[heads, sequences]`, or `[sequences, heads, 1]`.
                let sums = if sums.dim() == 2 { sums.f_transpose(0, 1)? } else { sums.f_squeeze_dim(2)? };
                [values, sums]
            }
            _ => {
                let mask = lengths.mask(query.kind())?;
                let span = mask.size()[3];
                let [keys, values] =
                    keys_values.each_ref().map(|t| t.f_narrow(1, 0, span)?.f_transpose(1, 2));
                let query = query.f_view([sequences, kv, share, dim])?;
                let mask = mask.f_expand([sequences, kv, share, span], false)?;
                self.call(method, &query, [&keys?, &values?], Some(&mask))?
            }
        };
        Ok(Attended {
            values: values.f_view([sequences, kv, share, dim])?,
            sums: sums.f_reshape([sequences, kv, share])?,
        })
    }

    fn call(
        self,
        method: Method,
        query: &Tensor,
        keys_values: [&Tensor; 2],
        mask: Option<&Tensor>,
    ) -> Result<[Tensor; 2]> {
        match method {
            Method::Fused(kernel) => operators::attention(kernel, query, keys_values, mask, self.scale()),
            Method::Products => products(query, keys_values, mask, self.scale()),
            Method::Ragged => Err(TorchError::Engine("ragged attention takes no mask".to_owned())),
        }
    }
}

impl OwnLengths {
    /// Brings numbers of own tokens `[sequences]` into a method's form.
    fn new(method: Method, lengths: &Tensor, capacity: i64, span: i64, kind: Kind) -> Result<Self> {
        if method != Method::Ragged {
            return Ok(Self::Mask(mask(lengths, span, kind)?));
        }
        let places = Tensor::f_arange(lengths.size()[0] + 1, (Kind::Int, lengths.device()))?;
        let begin = places.f_mul_scalar(capacity)?;
        let used = lengths.f_to_kind(Kind::Int)?;
        Ok(Self::Ragged(Ragged { query_begin: places, begin, used, longest: span }))
    }

    fn mask(&self, kind: Kind) -> Result<Tensor> {
        match self {
            Self::Mask(mask) => Ok(mask.shallow_clone()),
            Self::Ragged(Ragged { used, longest, .. }) => mask(used, *longest, kind),
        }
    }
}

impl Attended {
    /// Merges attention over two sets of keys into that over both. Shapes may differ by strides.
    pub(super) fn merged(&self, other: &Self) -> Result<Tensor> {
        let weight = self.sums.f_sub(&other.sums)?.f_sigmoid()?.f_to_kind(self.values.kind())?;
        Ok(other.values.f_lerp_tensor(&self.values, &weight.f_unsqueeze(-1)?)?)
    }
}

/// Returns the additive mask `[sequences, 1, 1, span]` of the first `lengths` keys of each sequence.
fn mask(lengths: &Tensor, span: i64, kind: Kind) -> Result<Tensor> {
    let (count, device) = (lengths.size()[0], lengths.device());
    let tokens = Tensor::f_arange(span, (Kind::Int64, device))?;
    let behind = tokens.f_view([1, span])?.f_ge_tensor(&lengths.f_view([count, 1])?)?;
    let mask = Tensor::f_zeros([count, span], (kind, device))?;
    Ok(mask.f_masked_fill(&behind, f64::NEG_INFINITY)?.f_view([count, 1, 1, span])?)
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
    heads: Heads,
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
            heads,
            kind,
        })
    }

    /// Tries a method with a number of rows that share their keys.
    fn prefix(&self, rows: i64, method: Method) -> Result<()> {
        let query = self.query.f_narrow(0, 0, Self::GROUPS * rows)?;
        let query = query.f_view([Self::GROUPS, rows, self.heads.query, self.heads.dim])?;
        self.compare(method, |method| self.heads.attend_prefix(method, &query, &self.prefix))
    }

    /// Tries a method with sequences of different lengths.
    fn own(&self, method: Method) -> Result<()> {
        self.compare(method, |method| {
            let lengths = OwnLengths::new(method, &self.lengths, Self::CAPACITY, Self::SPAN, self.kind)?;
            self.heads.attend_own(method, &self.query, &self.own, &lengths)
        })
    }

    /// Compares a method with products.
    fn compare(&self, method: Method, attend: impl Fn(Method) -> Result<Attended>) -> Result<()> {
        let (found, right) = (attend(method)?, attend(Method::Products)?);
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

    /// What a CPU has, in both dtypes, with and without shared key heads; absent kernels and wrong numbers are seen.
    #[test]
    fn kernels_are_tried_before_they_are_used() {
        for (query, kv, dim) in [(4, 4, 16), (8, 2, 32), (3, 1, 8)] {
            let heads = Heads { query, kv, dim };
            for kind in [Kind::Float, Kind::BFloat16] {
                let kernels = AttentionKernels::choose(heads, (kind, Device::Cpu)).unwrap();
                let chosen = [&kernels.prefix[0], &kernels.prefix[1], &kernels.own].map(Cell::get);
                assert_eq!(chosen, [Method::Fused(Kernel::Cpu); 3], "{heads:?} {kind:?}");
                let trial = Trial::new(heads, (kind, Device::Cpu)).unwrap();
                for absent in [Method::Ragged, Method::Fused(Kernel::CuDnn)] {
                    assert!(trial.own(absent).is_err() && trial.prefix(1, absent).is_err(), "{absent:?}");
                }
                let wrong = |method| {
                    let factor = if method == Method::Products { 1 } else { 2 };
                    let query = trial.query.f_mul_scalar(factor)?.f_view([2, 3, heads.query, dim])?;
                    heads.attend_prefix(Method::Products, &query, &trial.prefix)
                };
                assert!(trial.compare(Method::Ragged, wrong).is_err());
            }
        }
    }

    /// A kernel that refuses an input gives way, with the same numbers, also for the batches that follow.
    #[test]
    fn products_take_the_place_of_a_kernel_that_fails() {
        let heads = Heads { query: 4, kv: 2, dim: 16 };
        let trial = Trial::new(heads, (Kind::Float, Device::Cpu)).unwrap();
        let own = |method| {
            OwnLengths::new(method, &trial.lengths, Trial::CAPACITY, Trial::SPAN, Kind::Float).unwrap()
        };
        let absent = Method::Fused(Kernel::CuDnn);
        let kernels = AttentionKernels {
            prefix: [Cell::new(absent), Cell::new(absent)],
            own: Cell::new(Method::Ragged),
            heads,
        };
        let right =
            heads.attend_own(Method::Products, &trial.query, &trial.own, &own(Method::Products)).unwrap();
        let found = kernels.own(&trial.query, &trial.own, &own(Method::Ragged)).unwrap();
        assert_eq!(found.values, right.values);
        kernels.prefix(&trial.query.view([2, 3, 4, 16]), &trial.prefix).unwrap();
        assert_eq!(kernels.own.get(), Method::Products);
        assert_eq!([kernels.prefix[0].get(), kernels.prefix[1].get()], [absent, Method::Products]);
    }
}
