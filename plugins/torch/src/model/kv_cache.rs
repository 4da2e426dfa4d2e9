//! Keys and values of one sequence.

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Preallocated keys and values `[1, kv_heads, capacity, head_dim]` of every layer.
pub(crate) struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    length: i64,
}

impl KvCache {
    pub(crate) fn new(layers: usize, shape: &[i64; 4], options: (Kind, Device)) -> Result<Self> {
        let empty = || -> Result<(Tensor, Tensor)> {
            Ok((Tensor::f_zeros(shape, options)?, Tensor::f_zeros(shape, options)?))
        };
        let layers = (0..layers).map(|_| empty()).collect::<Result<_>>()?;
        Ok(Self { layers, length: 0 })
    }

    /// Tokens held.
    pub(crate) fn len(&self) -> i64 {
        self.length
    }

    /// Writes new keys and values of a layer behind the tokens held, and returns all of that layer's.
    /// [`advance`](Self::advance) makes them part of the cache once every layer has written.
    pub(crate) fn append(
        &mut self,
        layer: usize,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let added = key.size()[2];
        let (keys, values) = &self.layers[layer];
        keys.f_narrow(2, self.length, added)?.f_copy_(key)?;
        values.f_narrow(2, self.length, added)?.f_copy_(value)?;
        let all = self.length + added;
        Ok((keys.f_narrow(2, 0, all)?, values.f_narrow(2, 0, all)?))
    }

    /// Counts `tokens` that every layer has appended.
    pub(crate) fn advance(&mut self, tokens: i64) {
        self.length += tokens;
    }

    /// An independent copy.
    pub(crate) fn duplicate(&self) -> Result<Self> {
        let copy = |(keys, values): &(Tensor, Tensor)| -> Result<(Tensor, Tensor)> {
            Ok((duplicate(keys)?, duplicate(values)?))
        };
        let layers = self.layers.iter().map(copy).collect::<Result<_>>()?;
        Ok(Self { layers, length: self.length })
    }
}

/// A copy with storage of its own.
pub(crate) fn duplicate(tensor: &Tensor) -> Result<Tensor> {
    let mut copy = tensor.f_empty_like()?;
    copy.f_copy_(tensor)?;
    Ok(copy)
}
