//! KV cache of many groups of sequences side by side, for decoding steps that compute all of them at once.

use tch::{Device, Kind, Tensor};

use super::kv_cache::KvCache;
use crate::error::{Result, TorchError};

/// Prefix lengths are cut to multiples of this, for aligned matrix products; the rest counts as own tokens.
const ALIGNMENT: i64 = 8;

/// Own tokens are preallocated in multiples of this.
const CAPACITY_STEP: i64 = 64;

/// Keys and values of groups with the same shape: each group shares a prefix of `prefix` tokens and has `rows`
/// sequences with own tokens behind it. Groups lie side by side, so that one product covers all of them.
pub(crate) struct GroupCache {
    shape: GroupShape,
    kv_heads: i64,
    head_dim: i64,
    /// Groups in use, in the first slots.
    groups: i64,
    /// Allocated groups.
    slots: i64,
    /// Allocated own tokens of a sequence.
    capacity: i64,
    layers: Vec<GroupLayer>,
    options: (Kind, Device),
}

/// What the groups of a [`GroupCache`] have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupShape {
    /// Tokens of the shared prefix.
    pub(crate) prefix: i64,
    /// Sequences of a group.
    pub(crate) rows: i64,
}

impl GroupShape {
    /// Returns the shape of a group of `rows` sequences that begin with the content of `cache`.
    pub(crate) fn of(cache: &KvCache, rows: i64) -> Self {
        let prefix = cache.prefix().map_or(0, |prefix| prefix.length());
        Self { prefix: prefix / ALIGNMENT * ALIGNMENT, rows }
    }
}

/// Keys and values of one layer.
struct GroupLayer {
    /// Keys and values of the prefixes, `[slots, kv_heads, prefix, head_dim]`; `None` without a prefix.
    prefix: Option<[Tensor; 2]>,
    /// Keys, and behind them values, of own tokens: `[slots * rows, capacity, 2 * kv_heads, head_dim]`.
    own: Tensor,
}

/// Keys and values of one layer that a step attends to.
pub(super) struct GroupOperands {
    /// Keys and values of the prefixes, `[groups, kv_heads, prefix, head_dim]`.
    pub(super) prefix: Option<[Tensor; 2]>,
    /// Keys and values of own tokens, `[sequences, capacity, kv_heads, head_dim]`.
    pub(super) own: [Tensor; 2],
}

impl GroupCache {
    /// Creates a cache without groups.
    pub(crate) fn new(
        shape: GroupShape,
        layers: usize,
        (kv_heads, head_dim): (i64, i64),
        options: (Kind, Device),
    ) -> Result<Self> {
        let mut cache = Self {
            shape,
            kv_heads,
            head_dim,
            groups: 0,
            slots: 0,
            capacity: 0,
            layers: Vec::new(),
            options,
        };
        cache.layers = (0..layers).map(|_| cache.empty()).collect::<Result<_>>()?;
        Ok(cache)
    }

    /// Returns what the groups have in common.
    pub(crate) fn shape(&self) -> GroupShape {
        self.shape
    }

    /// Returns the number of groups that a step computes: those in use, rounded up to one of eight numbers between two
    /// powers of two. Some kernels are prepared anew for each number that they meet.
    pub(crate) fn groups(&self) -> i64 {
        rounded(self.groups)
    }

    /// Returns the number of sequences that a step computes.
    pub(crate) fn sequences(&self) -> i64 {
        self.groups() * self.shape.rows
    }

    /// Allocates room for one more group, whose sequences begin with the content of `cache`.
    pub(crate) fn make_room(&mut self, cache: &KvCache) -> Result<()> {
        self.reserve(self.groups + 1, cache.len() - self.shape.prefix)
    }

    /// Adds a group whose sequences all begin with the content of `cache`, which is copied. Returns the number of own
    /// tokens that each sequence begins with.
    pub(crate) fn push(&mut self, cache: &KvCache) -> Result<i64> {
        let begin = cache.len() - self.shape.prefix;
        self.make_room(cache)?;
        let slot = self.groups;
        for (index, layer) in self.layers.iter().enumerate() {
            let parts = cache.layer(index)?;
            let own = layer.own.f_narrow(0, slot * self.shape.rows, self.shape.rows)?;
            let mut start = 0;
            if let (Some([keys, values]), Some((shared_keys, shared_values))) =
                (&layer.prefix, &parts.prefix)
            {
                for (to, from) in [(keys, shared_keys), (values, shared_values)] {
                    { to.f_select(0, slot)? }.f_copy_(&from.f_squeeze_dim(0)?.f_narrow(
                        1,
                        0,
                        self.shape.prefix,
                    )?)?;
                }
            }
            if let Some((keys, values)) = &parts.prefix {
                let rest = keys.size()[2] - self.shape.prefix;
                if rest > 0 {
                    let part =
                        |t: &Tensor| -> Result<Tensor> { Ok(t.f_narrow(2, self.shape.prefix, rest)?) };
                    put(&own, start, &part(keys)?, &part(values)?)?;
                    start += rest;
                }
            }
            put(&own, start, &parts.own.0, &parts.own.1)?;
        }
        self.groups += 1;
        Ok(begin)
    }

    /// Makes room for `tokens` own tokens of each sequence.
    pub(crate) fn reserve_tokens(&mut self, tokens: i64) -> Result<()> {
        self.reserve(self.groups, tokens)
    }

    /// Removes the last group.
    pub(crate) fn pop(&mut self) {
        self.groups = (self.groups - 1).max(0);
    }

    /// Removes a group; the last one takes its slot.
    pub(crate) fn swap_remove(&mut self, slot: i64) -> Result<()> {
        let last = self.groups - 1;
        if slot != last {
            for layer in &self.layers {
                for part in layer.prefix.iter().flatten() {
                    part.f_select(0, slot)?.f_copy_(&part.f_select(0, last)?)?;
                }
                let rows = self.shape.rows;
                let own = |slot: i64| layer.own.f_narrow(0, slot * rows, rows);
                own(slot)?.f_copy_(&own(last)?)?;
            }
        }
        self.groups = last;
        Ok(())
    }

    /// Returns the number of tokens between the first own tokens of two sequences.
    pub(crate) fn capacity(&self) -> i64 {
        self.capacity
    }

    /// Writes keys and values `[sequences, 2 * kv_heads, head_dim]` of one token of each sequence. Own token `t` of sequence
    /// `i` has the place `i * capacity + t`.
    pub(super) fn write(&self, layer: usize, places: &Tensor, values: &Tensor) -> Result<()> {
        let table = self.layers[layer].own.f_view([-1, 2 * self.kv_heads, self.head_dim])?;
        let _ = { table }.f_index_copy_(0, places, values)?;
        Ok(())
    }

    /// Returns keys and values of a layer.
    pub(super) fn operands(&self, layer: usize) -> Result<GroupOperands> {
        let GroupLayer { prefix, own } = &self.layers[layer];
        let prefix = match prefix {
            Some(both) => {
                let [keys, values] = both.each_ref().map(|t| t.f_narrow(0, 0, self.groups()));
                Some([keys?, values?])
            }
            None => None,
        };
        let own = own.f_narrow(0, 0, self.sequences())?;
        let part = |first: i64| own.f_narrow(2, first, self.kv_heads);
        Ok(GroupOperands { prefix, own: [part(0)?, part(self.kv_heads)?] })
    }

    /// Grows the allocation, one layer at a time, to hold some groups and own tokens. Where memory is short, the cache is as
    /// before.
    fn reserve(&mut self, groups: i64, tokens: i64) -> Result<()> {
        let needed = rounded(groups);
        if needed <= self.slots && tokens <= self.capacity {
            return Ok(());
        }
        let slots = if needed > self.slots { needed.max(2 * self.slots) } else { self.slots };
        let capacity = self.capacity.max((tokens + CAPACITY_STEP - 1) / CAPACITY_STEP * CAPACITY_STEP);
        let grown = (0..self.layers.len()).try_for_each(|index| self.grow(index, slots, capacity));
        match grown {
            Ok(()) => (self.slots, self.capacity) = (slots, capacity),
            // More slots do no harm, but own tokens lie equally far apart in all layers.
            Err(_) => {
                let lost = |_| TorchError::Engine("no memory to take a cache's growth back".to_owned());
                let old = self.capacity;
                for layer in self.layers.iter_mut().filter(|layer| layer.own.size()[1] != old) {
                    layer.own =
                        layer.own.f_narrow(1, 0, old).and_then(|own| own.f_contiguous()).map_err(lost)?;
                }
            }
        }
        grown
    }

    /// Grows one layer.
    fn grow(&mut self, index: usize, slots: i64, capacity: i64) -> Result<()> {
        let GroupLayer { prefix: old_prefix, own: old_own } = &self.layers[index];
        let prefix = match old_prefix {
            Some(both) if slots == self.slots => Some(both.each_ref().map(Tensor::shallow_clone)),
            Some([keys, values]) => Some([self.with_slots(keys, slots)?, self.with_slots(values, slots)?]),
            None => None,
        };
        let own = self.empty_own(slots, capacity)?;
        if self.groups > 0 {
            let sequences = self.groups * self.shape.rows;
            let part = |t: &Tensor| t.f_narrow(0, 0, sequences)?.f_narrow(1, 0, self.capacity);
            part(&own)?.f_copy_(&part(old_own)?)?;
        }
        self.layers[index] = GroupLayer { prefix, own };
        Ok(())
    }

    /// Copies the prefixes in use to a tensor of more slots.
    fn with_slots(&self, old: &Tensor, slots: i64) -> Result<Tensor> {
        let new = self.empty_prefix(slots)?;
        if self.groups > 0 {
            let part = |t: &Tensor| t.f_narrow(0, 0, self.groups);
            part(&new)?.f_copy_(&part(old)?)?;
        }
        Ok(new)
    }

    fn empty_prefix(&self, slots: i64) -> Result<Tensor> {
        Ok(Tensor::f_empty([slots, self.kv_heads, self.shape.prefix, self.head_dim], self.options)?)
    }

    /// Allocates own tokens: zero, since those behind a sequence's last are multiplied by zero.
    fn empty_own(&self, slots: i64, capacity: i64) -> Result<Tensor> {
        let shape = [slots * self.shape.rows, capacity, 2 * self.kv_heads, self.head_dim];
        Ok(Tensor::f_zeros(shape, self.options)?)
    }

    /// Allocates a layer without slots.
    fn empty(&self) -> Result<GroupLayer> {
        let prefix = match self.shape.prefix {
            0 => None,
            _ => Some([self.empty_prefix(0)?, self.empty_prefix(0)?]),
        };
        Ok(GroupLayer { prefix, own: self.empty_own(0, 0)? })
    }
}

/// Copies keys and values `[1, kv_heads, tokens, head_dim]` to every row of `[rows, capacity, 2 * kv_heads, head_dim]`.
fn put(own: &Tensor, start: i64, keys: &Tensor, values: &Tensor) -> Result<()> {
    let (heads, tokens) = (keys.size()[1], keys.size()[2]);
    for (part, from) in (0..).zip([keys, values]) {
        let to = own.f_narrow(1, start, tokens)?.f_narrow(2, part * heads, heads)?;
        { to }.f_copy_(&from.f_transpose(1, 2)?)?;
    }
    Ok(())
}

/// Rounds a number of groups up.
fn rounded(groups: i64) -> i64 {
    let unit = (groups.unsigned_abs().next_power_of_two() as i64 / 8).max(1);
    (groups + unit - 1) / unit * unit
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn numbers_of_groups_are_rounded_up_to_few_by_an_eighth_at_most() {
        let all: std::collections::BTreeSet<i64> = (0..=64).map(rounded).collect();
        assert_eq!(
            all.into_iter().collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64]
        );
        assert!((1..1000).all(|n| n <= rounded(n) && 4 * rounded(n) <= 5 * n));
    }
}
