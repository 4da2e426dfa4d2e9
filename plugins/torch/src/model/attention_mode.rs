//! Attention patterns of a forward pass.

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

use super::kv_cache::KvCache;
use super::product::Mask;
use crate::error::Result;

/// Lengths of a packed sequence: a shared prefix, and suffixes that each attend to the prefix and causally to
/// themselves, but not to each other.
#[derive(Debug)]
pub(crate) struct PackedSequence {
    /// Tokens of the prefix (the prompt).
    pub(crate) prefix: i64,
    /// Tokens of each suffix (an answer).
    suffixes: Vec<i64>,
    /// Mask of the suffix tokens, the same in all layers.
    mask: OnceCell<Tensor>,
}

/// Attention of neighbouring tokens of a packed sequence in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Number of tokens that attend.
    pub(super) queries: i64,
    /// Number of tokens from the sequence's first on that they attend to.
    pub(super) keys: i64,
    /// Which of those.
    pub(super) attended: Attended,
}

/// Tokens that a token of a packed sequence attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attended {
    /// All.
    All,
    /// Those before it, and itself.
    Before,
    /// Those of [`PackedSequence::mask`].
    Masked,
}

impl PackedSequence {
    /// Describes a sequence by its lengths.
    pub(crate) fn new(prefix: i64, suffixes: Vec<i64>) -> Self {
        Self { prefix, suffixes, mask: OnceCell::new() }
    }

    /// Returns the calls of attention: one for the prefix, whose only query is its last token if `last_alone`, and one with
    /// a mask for its suffixes. A single suffix continues its prefix, so that one causal call says the same; on a GPU,
    /// where that call has a faster kernel, it does (`together`).
    pub(super) fn calls(&self, last_alone: bool, together: bool) -> Vec<Call> {
        let (prefix, suffix) = (self.prefix, self.suffix_tokens());
        if together && !last_alone && self.suffixes.len() == 1 {
            return vec![Call {
                queries: prefix + suffix,
                keys: prefix + suffix,
                attended: Attended::Before,
            }];
        }
        let queries = if last_alone { 1 } else { prefix };
        let attended = if queries > 1 { Attended::Before } else { Attended::All };
        let own = Call { queries, keys: prefix, attended };
        let answers = Call { queries: suffix, keys: prefix + suffix, attended: Attended::Masked };
        std::iter::once(own).chain((suffix > 0).then_some(answers)).collect()
    }

    /// Returns the number of suffix tokens.
    pub(super) fn suffix_tokens(&self) -> i64 {
        self.suffixes.iter().sum()
    }

    /// Returns the attention mask of the suffix tokens, `[suffix, prefix + suffix]`, true where they attend.
    pub(super) fn mask(&self, device: Device) -> Result<&Tensor> {
        match self.mask.get() {
            Some(known) => Ok(known),
            None => {
                let new = self.new_mask(device)?;
                Ok(self.mask.get_or_init(|| new))
            }
        }
    }

    fn new_mask(&self, device: Device) -> Result<Tensor> {
        let ones = |shape: [i64; 2]| Tensor::f_ones(shape, (Kind::Bool, device));
        let own = |&length: &i64| Ok(ones([length, length])?.f_tril(0)?);
        let own = Tensor::f_block_diag(&self.suffixes.iter().map(own).collect::<Result<Vec<_>>>()?)?;
        Ok(Tensor::f_cat(&[ones([own.size()[0], self.prefix])?, own], 1)?)
    }
}

/// Attention pattern of a forward pass, with the KV caches that it uses.
pub(crate) enum AttentionMode<'a> {
    /// Packed sequences in one row, without a cache.
    Packed(&'a [PackedSequence]),
    /// As [`Packed`](Self::Packed), but the last layer outputs only the hidden states that predict suffix tokens:
    /// that of each prefix's last token, and those of the suffixes.
    PackedSuffixes(&'a [PackedSequence]),
    /// One sequence behind the content of its cache, to which its keys and values are appended.
    Extend(&'a mut KvCache),
    /// As [`Extend`](Self::Extend), to fill the cache alone: the last layer computes keys and values only, and
    /// the output is meaningless.
    Fill(&'a mut KvCache),
    /// One token of each active sequence of several caches. Rows behind theirs are padding with meaningless
    /// output.
    Step(&'a mut [ActiveRows<'a>]),
}

impl AttentionMode<'_> {
    /// Selects the tokens on axis `dim` of `t` whose output the last layer computes.
    pub(super) fn select_outputs(&self, t: &Tensor, dim: i64) -> Result<Tensor> {
        let Self::PackedSuffixes(packed) = self else { return Ok(t.shallow_clone()) };
        let mut start = 0;
        let part = |sequence: &PackedSequence| -> Result<Tensor> {
            let (prefix, suffix) = (sequence.prefix, sequence.suffix_tokens());
            let part = t.f_narrow(dim, start + prefix - 1, 1 + suffix)?;
            start += prefix + suffix;
            Ok(part)
        };
        let parts = packed.iter().map(part).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&parts, dim)?)
    }
}

/// Active sequences of one KV cache, which advance by one token each.
pub(crate) struct ActiveRows<'a> {
    pub(super) cache: &'a mut KvCache,
    /// Number of active sequences.
    pub(super) count: i64,
    /// Their rows in the cache; `None` if all of its sequences are active.
    rows: Option<Tensor>,
}

impl<'a> ActiveRows<'a> {
    /// Selects sequences by their rows in the cache, in rising order.
    pub(crate) fn new(cache: &'a mut KvCache, rows: &[i64]) -> Result<Self> {
        let (count, device) = (rows.len() as i64, cache.device());
        let all = count == cache.sequences();
        let rows = match all {
            true => None,
            false => Some(Tensor::f_from_slice(rows)?.f_to_device(device)?),
        };
        Ok(Self { cache, count, rows })
    }

    /// Scatters the active sequences' rows of `active` to their rows in the cache; zeros elsewhere.
    pub(super) fn scatter(&self, active: Tensor) -> Result<Tensor> {
        let Some(rows) = &self.rows else { return Ok(active) };
        let mut shape = active.size();
        shape[0] = self.cache.sequences();
        Ok(active.f_new_zeros(&shape, (active.kind(), active.device()))?.f_index_copy(0, rows, &active)?)
    }

    /// Gathers the active sequences' rows; the inverse of [`scatter`](Self::scatter).
    pub(super) fn gather(&self, all: Tensor) -> Result<Tensor> {
        match &self.rows {
            Some(rows) => Ok(all.f_index_select(0, rows)?),
            None => Ok(all),
        }
    }
}

/// Returns the custom mask if there is one, else a causal or full one.
pub(super) fn mask_or(custom: Option<&Tensor>, causal: bool) -> Mask<'_> {
    match custom {
        Some(mask) => Mask::Custom(mask),
        None if causal => Mask::Causal,
        None => Mask::Full,
    }
}

/// Returns the mask of `length` tokens behind `past` cached ones, `[length, past + length]`; `None` where a causal
/// or full mask is equivalent.
pub(super) fn offset_mask(past: i64, length: i64, device: Device) -> Result<Option<Tensor>> {
    if past == 0 || length == 1 {
        return Ok(None);
    }
    let all = Tensor::f_ones([length, past + length], (Kind::Bool, device))?;
    Ok(Some(all.f_tril(past)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attention of a packed sequence by its calls, `[1, heads, queries, width]`.
    fn attended(sequence: &PackedSequence, together: bool, [q, k, v]: [&Tensor; 3]) -> Tensor {
        let mut start = 0;
        let call = |Call { queries, keys, attended }: Call| {
            let part = |t: &Tensor, start: i64, length: i64| t.narrow(2, start, length);
            let mask = match attended {
                Attended::All => Mask::Full,
                Attended::Before => Mask::Causal,
                Attended::Masked => Mask::Custom(sequence.mask(Device::Cpu).unwrap()),
            };
            start += queries;
            let q = part(q, start - queries, queries);
            super::super::product::attention(&q, &part(k, 0, keys), &part(v, 0, keys), mask).unwrap()
        };
        Tensor::cat(&sequence.calls(false, together).into_iter().map(call).collect::<Vec<_>>(), 2)
    }

    #[test]
    fn one_causal_call_is_a_prefix_and_its_only_suffix() {
        let random = || Tensor::randn([1, 2, 12, 8], (Kind::Float, Device::Cpu));
        let all = [&random(), &random(), &random()];
        for (suffixes, calls) in [(vec![5], 1), (vec![3, 2], 2)] {
            let sequence = PackedSequence::new(7, suffixes);
            assert_eq!(sequence.calls(false, true).len(), calls);
            assert_eq!(
                sequence.calls(true, true).len(),
                2,
                "the last layer's only query is the prefix's last token"
            );
            let difference = attended(&sequence, true, all) - attended(&sequence, false, all);
            assert!(f64::try_from(difference.abs().max()).unwrap() < 1e-6);
        }
    }
}
