//! Buffers between a GPU and an optimiser whose state is in host memory.

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Page-locked buffers of the size of the largest parameter, through which gradients come to the host and weights go
/// back. Moments and masters themselves never leave the host, so they are in ordinary memory.
pub(super) struct Staging {
    /// Float32.
    gradient: Tensor,
    /// In the parameters' dtypes.
    weights: Vec<Tensor>,
}

impl Staging {
    /// Creates buffers for parameters on `device`.
    pub(super) fn new<'t>(
        parameters: impl Iterator<Item = &'t Tensor> + Clone,
        device: Device,
    ) -> Result<Self> {
        let largest = |kind: Option<Kind>| {
            let of_kind = parameters.clone().filter(|tensor| kind.is_none_or(|kind| tensor.kind() == kind));
            of_kind.map(|tensor| tensor.numel() as i64).max().unwrap_or_default()
        };
        let buffer = |count: i64, kind: Kind| -> Result<Tensor> {
            let buffer = Tensor::f_empty([count], (kind, Device::Cpu))?;
            if device.is_cuda() { Ok(buffer.f_pin_memory(device)?) } else { Ok(buffer) }
        };
        let kinds = [Kind::Float, Kind::BFloat16].into_iter().filter(|kind| largest(Some(*kind)) > 0);
        let weights = kinds.map(|kind| buffer(largest(Some(kind)), kind)).collect::<Result<_>>()?;
        Ok(Self { gradient: buffer(largest(None), Kind::Float)?, weights })
    }

    /// Copies a flat gradient to the host. Valid until the next call.
    pub(super) fn gradient(&mut self, gradient: &Tensor) -> Result<Tensor> {
        let mut buffer = self.gradient.f_narrow(0, 0, gradient.numel() as i64)?;
        buffer.f_copy_(gradient)?;
        Ok(buffer)
    }

    /// Copies flat float32 weights from the host into a parameter, rounded to its dtype.
    pub(super) fn put(&mut self, weights: &Tensor, parameter: &mut Tensor) -> Result<()> {
        let shape = parameter.size();
        let Some(buffer) = self.weights.iter().find(|buffer| buffer.kind() == parameter.kind()) else {
            return Ok(parameter.f_copy_(&weights.f_view(shape.as_slice())?)?);
        };
        let mut rounded = buffer.f_narrow(0, 0, weights.numel() as i64)?;
        rounded.f_copy_(weights)?;
        Ok(parameter.f_copy_(&rounded.f_view(shape.as_slice())?)?)
    }
}
