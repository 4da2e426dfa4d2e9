//! KV cache with a shared prefix.

use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Keys and values `[sequences, kv_heads, tokens, head_dim]` of one layer.
type Layer = (Tensor, Tensor);

/// Immutable keys and values of a prefix that several sequences share.
pub(crate) struct Prefix {
    layers: Vec<Layer>,
    length: i64,
}

impl Prefix {
    /// Returns the number of tokens.
    pub(super) fn length(&self) -> i64 {
        self.length
    }

    /// Returns the size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let size = |tensor: &Tensor| tensor.numel() as u64 * tensor.kind().elt_size_in_bytes() as u64;
        self.layers.iter().map(|(keys, values)| size(keys) + size(values)).sum()
    }
}

/// Fewest tokens by which a full cache grows.
const GROWTH: i64 = 64;

/// Keys and values of every layer for sequences of one length: an optional prefix that they share, and behind it
/// each sequence's own tokens. The capacity grows by half when it is exceeded.
pub(crate) struct KvCache {
    prefix: Option<Rc<Prefix>>,
    layers: Vec<Layer>,
    length: i64,
}

/// Keys and values of a layer: the prefix's, and the sequences' own.
pub(crate) struct Parts {
    pub(crate) prefix: Option<Layer>,
    pub(crate) own: Layer,
}

impl KvCache {
    /// Creates an empty cache of `layers` layers; `shape` is `[1, kv_heads, capacity, head_dim]`.
    pub(crate) fn new(
        prefix: Option<Rc<Prefix>>,
        layers: usize,
        shape: &[i64; 4],
        options: (Kind, Device),
    ) -> Result<Self> {
        let empty = || -> Result<Layer> {
            Ok((Tensor::f_empty(shape, options)?, Tensor::f_empty(shape, options)?))
        };
        let layers = (0..layers).map(|_| empty()).collect::<Result<_>>()?;
        Ok(Self { prefix, layers, length: 0 })
    }

    /// Returns the number of sequences.
    pub(crate) fn sequences(&self) -> i64 {
        self.layers.first().map_or(0, |(keys, _)| keys.size()[0])
    }

    /// Returns the device.
    pub(crate) fn device(&self) -> Device {
        self.layers.first().map_or(Device::Cpu, |(keys, _)| keys.device())
    }

    /// Returns the number of tokens of each sequence, prefix included.
    pub(crate) fn len(&self) -> i64 {
        self.prefix.as_ref().map_or(0, |prefix| prefix.length) + self.length
    }

    /// Appends keys and values `[sequences, kv_heads, tokens, head_dim]` of a layer, and returns all of the layer.
    /// They are overwritten by the next call unless [`advance`](Self::advance) counts them once every layer has
    /// appended.
    pub(crate) fn append(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<Parts> {
        let added = key.size()[2];
        self.reserve(layer, self.length + added)?;
        let (keys, values) = &self.layers[layer];
        keys.f_narrow(2, self.length, added)?.f_copy_(key)?;
        values.f_narrow(2, self.length, added)?.f_copy_(value)?;
        self.parts(layer, self.length + added)
    }

    /// Returns all keys and values of a layer.
    pub(super) fn layer(&self, layer: usize) -> Result<Parts> {
        self.parts(layer, self.length)
    }

    /// Returns the shared prefix.
    pub(super) fn prefix(&self) -> Option<&Prefix> {
        self.prefix.as_deref()
    }

    /// Returns keys and values of a layer, with the first `tokens` own tokens.
    fn parts(&self, layer: usize, tokens: i64) -> Result<Parts> {
        let (keys, values) = &self.layers[layer];
        let own = (keys.f_narrow(2, 0, tokens)?, values.f_narrow(2, 0, tokens)?);
        let shared = |prefix: &Rc<Prefix>| {
            let (keys, values) = &prefix.layers[layer];
            (keys.shallow_clone(), values.shallow_clone())
        };
        Ok(Parts { prefix: self.prefix.as_ref().map(shared), own })
    }

    /// Grows a layer's capacity to at least `needed` tokens.
    fn reserve(&mut self, layer: usize, needed: i64) -> Result<()> {
        let (keys, values) = &self.layers[layer];
        let capacity = keys.size()[2];
        if needed <= capacity {
            return Ok(());
        }
        let grown = needed.max(capacity + GROWTH.max(capacity / 2));
        let grow = |tensor: &Tensor| -> Result<Tensor> {
            let mut shape = tensor.size();
            shape[2] = grown;
            let larger = Tensor::f_empty(&shape, (tensor.kind(), tensor.device()))?;
            larger.f_narrow(2, 0, self.length)?.f_copy_(&tensor.f_narrow(2, 0, self.length)?)?;
            Ok(larger)
        };
        self.layers[layer] = (grow(keys)?, grow(values)?);
        Ok(())
    }

    /// Commits `tokens` that every layer has appended.
    pub(crate) fn advance(&mut self, tokens: i64) {
        self.length += tokens;
    }

    /// Forks one sequence into `n`: the prefix is shared, the own tokens are copied.
    pub(crate) fn fork(&self, n: i64) -> Result<Self> {
        let copy = |tensor: &Tensor| -> Result<Tensor> {
            let mut shape = tensor.size();
            shape[0] = n;
            duplicate(&tensor.f_expand(&shape, false)?)
        };
        let copy = |(keys, values): &Layer| -> Result<Layer> { Ok((copy(keys)?, copy(values)?)) };
        let layers = self.layers.iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { prefix: self.prefix.clone(), layers, length: self.length })
    }

    /// Turns a cache without a prefix, whose capacity is its length, into a prefix.
    pub(crate) fn into_prefix(self) -> Prefix {
        Prefix { layers: self.layers, length: self.length }
    }
}

impl Parts {
    /// Concatenates prefix and own tokens.
    pub(crate) fn joined(self) -> Result<Layer> {
        let Some((keys, values)) = self.prefix else { return Ok(self.own) };
        Ok((Tensor::f_cat(&[keys, self.own.0], 2)?, Tensor::f_cat(&[values, self.own.1], 2)?))
    }
}

/// Copies a tensor to contiguous storage of its own.
pub(crate) fn duplicate(tensor: &Tensor) -> Result<Tensor> {
    let mut copy = Tensor::f_empty(tensor.size(), (tensor.kind(), tensor.device()))?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}
