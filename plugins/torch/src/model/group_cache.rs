//! KV cache of many groups of sequences side by side, for decoding steps that compute all of them at once.

use tch::{Device, Kind, Tensor};

use super::kv_cache::KvCache;
use crate::error::Result;

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
    /// Keys and values of own tokens, `[2, slots, kv_heads, rows, capacity, head_dim]`.
    own: Tensor,
}

/// Keys and values of the groups in use in one layer, as operands of batched products.
pub(super) struct GroupOperands {
    /// Keys and values `[groups * kv_heads, prefix, head_dim]`.
    pub(super) prefix: Option<[Tensor; 2]>,
    /// Keys and values `[groups * kv_heads * rows, span, head_dim]`.
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

    /// Returns the number of groups in use.
    pub(crate) fn groups(&self) -> i64 {
        self.groups
    }

    /// Returns the number of sequences in use.
    pub(crate) fn sequences(&self) -> i64 {
        self.groups * self.shape.rows
    }

    /// Adds a group whose sequences all begin with the content of `cache`, which is copied. Returns the number of own
    /// tokens that each sequence begins with.
    pub(crate) fn push(&mut self, cache: &KvCache) -> Result<i64> {
        let begin = cache.len() - self.shape.prefix;
        self.reserve(self.groups + 1, begin)?;
        let slot = self.groups;
        for (index, layer) in self.layers.iter().enumerate() {
            let parts = cache.layer(index)?;
            let own = layer.own.f_select(1, slot)?;
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

    /// Removes a group; the last one takes its slot.
    pub(crate) fn swap_remove(&mut self, slot: i64) -> Result<()> {
        let last = self.groups - 1;
        if slot != last {
            for layer in &self.layers {
                for part in layer.prefix.iter().flatten() {
                    part.f_select(0, slot)?.f_copy_(&part.f_select(0, last)?)?;
                }
                layer.own.f_select(1, slot)?.f_copy_(&layer.own.f_select(1, last)?)?;
            }
        }
        self.groups = last;
        Ok(())
    }

    /// Returns the rows of [`write`](Self::write)'s table that hold own token 0 of each sequence in use,
    /// `[sequences, 2 * kv_heads]`; token `t` is `t` rows behind.
    pub(crate) fn first_rows(&self) -> Vec<i64> {
        let GroupShape { rows, .. } = self.shape;
        let mut index = Vec::new();
        for (group, row) in (0..self.groups).flat_map(|group| (0..rows).map(move |row| (group, row))) {
            for (part, head) in (0..2).flat_map(|part| (0..self.kv_heads).map(move |head| (part, head))) {
                let at = ((part * self.slots + group) * self.kv_heads + head) * rows + row;
                index.push(at * self.capacity);
            }
        }
        index
    }

    /// Writes keys and values `[sequences * 2 * kv_heads, head_dim]` of one token of each sequence in use.
    pub(super) fn write(&self, layer: usize, rows: &Tensor, values: &Tensor) -> Result<()> {
        let table = self.layers[layer].own.f_view([-1, self.head_dim])?;
        let _ = { table }.f_index_copy_(0, rows, values)?;
        Ok(())
    }

    /// Returns keys and values of a layer, `span` own tokens of each sequence.
    pub(super) fn operands(&self, layer: usize, span: i64) -> Result<GroupOperands> {
        let GroupLayer { prefix, own } = &self.layers[layer];
        let prefix = match prefix {
            Some([keys, values]) => {
                let used =
                    |t: &Tensor| -> Result<Tensor> { Ok(t.f_narrow(0, 0, self.groups)?.f_flatten(0, 1)?) };
                Some([used(keys)?, used(values)?])
            }
            None => None,
        };
        let used = |part: i64| -> Result<Tensor> {
            Ok(own.f_select(0, part)?.f_narrow(0, 0, self.groups)?.f_flatten(0, 2)?.f_narrow(1, 0, span)?)
        };
        Ok(GroupOperands { prefix, own: [used(0)?, used(1)?] })
    }

    /// Grows the allocation, one layer at a time, to hold some groups and own tokens. After an error the cache cannot be
    /// used.
    fn reserve(&mut self, groups: i64, tokens: i64) -> Result<()> {
        if groups <= self.slots && tokens <= self.capacity {
            return Ok(());
        }
        let slots = if groups > self.slots { groups.max(2 * self.slots) } else { self.slots };
        let capacity = self.capacity.max((tokens + CAPACITY_STEP - 1) / CAPACITY_STEP * CAPACITY_STEP);
        for index in 0..self.layers.len() {
            let GroupLayer { prefix: old_prefix, own: old_own } = &self.layers[index];
            let prefix = match old_prefix {
                Some(both) if slots == self.slots => Some(both.each_ref().map(Tensor::shallow_clone)),
                Some([keys, values]) => {
                    Some([self.with_slots(keys, slots)?, self.with_slots(values, slots)?])
                }
                None => None,
            };
            let own = self.empty_own(slots, capacity)?;
            if self.groups > 0 {
                let part = |t: &Tensor| t.f_narrow(1, 0, self.groups)?.f_narrow(4, 0, self.capacity);
                part(&own)?.f_copy_(&part(old_own)?)?;
            }
            self.layers[index] = GroupLayer { prefix, own };
        }
        (self.slots, self.capacity) = (slots, capacity);
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
        let shape = [2, slots, self.kv_heads, self.shape.rows, capacity, self.head_dim];
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

/// Copies keys and values `[1, kv_heads, tokens, head_dim]` to every row of `[2, kv_heads, rows, capacity, head_dim]`.
fn put(own: &Tensor, start: i64, keys: &Tensor, values: &Tensor) -> Result<()> {
    for (part, from) in [keys, values].into_iter().enumerate() {
        let to = own.f_select(0, part as i64)?.f_narrow(2, start, from.size()[2])?;
        { to }.f_copy_(&from.f_squeeze_dim(0)?.f_unsqueeze(1)?)?;
    }
    Ok(())
}
