//! Safetensors files, read and written one tensor at a time.

mod digest;
mod folder;
mod map;
#[cfg(test)]
mod rate;
mod read;
mod write;

pub(crate) use folder::{Stored, TensorFolder};
pub(crate) use read::{Reading, read_each, read_tensors, reading_threads};
pub(crate) use write::{Planned, hash_tensors, write_sharded, write_tensors};

use safetensors::Dtype;
use tch::{Device, Kind, Tensor};

use crate::error::{Result, TorchError};

/// Size in bytes of the pieces that tensors are copied in, which bounds the additional memory of reading and writing.
const PIECE: usize = 4 << 20;

/// Returns libtorch's dtype; `None` for dtypes that are not supported for weights.
pub(crate) fn kind_of(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::F64 => Some(Kind::Double),
        Dtype::I64 => Some(Kind::Int64),
        _ => None,
    }
}

fn dtype_of(kind: Kind, name: &str) -> Result<Dtype> {
    match kind {
        Kind::Float => Ok(Dtype::F32),
        Kind::BFloat16 => Ok(Dtype::BF16),
        Kind::Half => Ok(Dtype::F16),
        Kind::Double => Ok(Dtype::F64),
        Kind::Int64 => Ok(Dtype::I64),
        Kind::Uint8 => Ok(Dtype::U8),
        other => Err(TorchError::Engine(format!("{name} has type {other:?}, which is not written"))),
    }
}

/// Copies a tensor's elements to the CPU as little-endian bytes.
pub(crate) fn bytes_of(tensor: &Tensor) -> Result<Vec<u8>> {
    let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
    let count = tensor.numel();
    let mut bytes = vec![0_u8; count * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, count)?;
    Ok(bytes)
}

/// Copies a tensor's elements to the CPU as float32, row-major.
pub(crate) fn to_vec(tensor: &Tensor) -> Result<Vec<f32>> {
    let flat = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?.f_view([-1])?;
    Ok(Vec::try_from(&flat)?)
}

/// Returns the index of the first row of `[rows, columns]` that holds NaN or infinity.
pub(crate) fn first_row_not_finite(rows: &Tensor) -> Result<Option<usize>> {
    // Both propagate NaN, and together see either infinity.
    let extremes = rows.f_amin([-1].as_slice(), false)?.f_mul_scalar(0.0)?;
    let extremes = extremes.f_add(&rows.f_amax([-1].as_slice(), false)?.f_mul_scalar(0.0)?)?;
    // Zero times NaN or infinity is NaN, else zero.
    Ok(to_vec(&extremes)?.iter().position(|value| value.is_nan()))
}
