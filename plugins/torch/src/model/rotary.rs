//! Rotary position embedding (arXiv 2104.09864) in the half-split form of transformers.

use tch::{Device, Kind, Tensor};

use super::text_config::TextConfig;
use crate::error::Result;

/// Rotates `x` `[batch, heads, length, head_dim]`: `x * cos + rotate_half(x) * sin`.
pub(super) fn rotate(x: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Result<Tensor> {
    let half = x.size()[3] / 2;
    let (first, second) = (x.f_narrow(3, 0, half)?, x.f_narrow(3, half, half)?);
    let turned = Tensor::f_cat(&[second.f_neg()?, first], 3)?;
    Ok(x.f_mul(cos)?.f_add(&turned.f_mul(sin)?)?)
}

/// Returns cosines and sines `[max_position_embeddings, head_dim]`, computed in float32 and rounded to `kind`.
pub(super) fn rotary_tables(config: &TextConfig, kind: Kind, device: Device) -> Result<(Tensor, Tensor)> {
    let dim = config.head_dim();
    let options = (Kind::Float, Device::Cpu);
    let exponents = Tensor::f_arange_start_step(0, dim, 2, options)?.f_div_scalar(dim as f64)?;
    let inverse = Tensor::f_pow_scalar(config.theta(), &exponents)?.f_reciprocal()?;
    let inverse = inverse.f_div_scalar(config.position_scale())?;
    let positions = Tensor::f_arange(config.max_position_embeddings as i64, options)?;
    let angles = positions.f_unsqueeze(1)?.f_mul(&inverse.f_unsqueeze(0)?)?;
    let angles = Tensor::f_cat(&[&angles, &angles], 1)?;
    let place = |t: Tensor| -> Result<Tensor> { Ok(t.f_to_kind(kind)?.f_to_device(device)?) };
    Ok((place(angles.f_cos()?)?, place(angles.f_sin()?)?))
}
