//! Weights that transformers and bitsandbytes have saved in 4 bits: `weight` with its codes, and beside it `weight.absmax`,
//! `weight.quant_map`, `weight.quant_state.bitsandbytes__nf4` (JSON as bytes) and, of double quantisation,
//! `weight.nested_absmax` and `weight.nested_quant_map`.

use tch::{Device, Kind, Tensor};

use super::nf4::{Magnitudes, Nested, Nf4, State};
use crate::error::{Result, TorchError};
use crate::tensors::{Stored, TensorFolder, to_vec};

/// Ends of the names of a weight's further tensors.
const PARTS: [&str; 5] =
    ["absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state.bitsandbytes__nf4"];

/// Returns a further tensor of a weight.
fn part<'f>(files: &'f TensorFolder, weight: &str, part: &str) -> Option<&'f Stored> {
    let name = format!("{weight}.{part}");
    files
        .tensors
        .binary_search_by(|stored| stored.name.as_str().cmp(&name))
        .ok()
        .map(|at| &files.tensors[at])
}

/// Returns whether a tensor has the codes of a weight in 4 bits.
pub(super) fn is_quantised(files: &TensorFolder, stored: &Stored) -> bool {
    stored.dtype == safetensors::Dtype::U8 && part(files, &stored.name, PARTS[4]).is_some()
}

/// Returns whether a tensor belongs to a weight in 4 bits.
pub(super) fn is_part(files: &TensorFolder, stored: &Stored) -> bool {
    let weight = PARTS.iter().find_map(|part| stored.name.strip_suffix(part)?.strip_suffix('.'));
    weight.is_some_and(|weight| part(files, weight, PARTS[4]).is_some())
}

/// Returns the bytes of a weight in 4 bits with all that belongs to it.
pub(super) fn bytes(files: &TensorFolder, codes: &Stored) -> u64 {
    let parts = PARTS.iter().filter_map(|which| part(files, &codes.name, which));
    std::iter::once(codes).chain(parts).map(|stored| stored.bytes as u64).sum()
}

/// Reads a weight in 4 bits, whose decoded form is of dtype and device `place`.
///
/// # Errors
/// Another quantisation than this crate has, another shape than `expected`, or a part that is missing or damaged.
pub(super) fn read(
    files: &TensorFolder,
    codes: &Stored,
    expected: Option<&[i64]>,
    (kind, device): (Kind, Device),
) -> Result<Nf4> {
    let name = &codes.name;
    let refuse = |what: String| TorchError::checkpoint(&files.path, format!("{name} {what}"));
    let find = |which: &str| {
        part(files, name, which)
            .ok_or_else(|| refuse(format!("is in 4 bits, but {name}.{which} is missing")))
    };
    let own = |stored: &Stored| -> Result<Tensor> { files.read(stored, files.any_kind(stored)?, device) };
    let state = files.read(find(PARTS[4])?, Kind::Uint8, Device::Cpu)?;
    let state = crate::tensors::bytes_of(&state)?;
    let state: State = serde_json::from_slice(&state)
        .map_err(|error| refuse(format!("has a quant_state that is not understood: {error}")))?;
    let shape = state.check(expected).map_err(refuse)?;
    let count: i64 = shape.iter().product();
    let blocks = (count + super::nf4::BLOCK - 1) / super::nf4::BLOCK;
    let magnitudes = find("absmax")?;
    let fits = codes.count() == (count + 1) / 2 && magnitudes.count() == blocks;
    let values = to_vec(&own(find("quant_map")?)?)?;
    if !fits || values.len() != 16 {
        return Err(refuse(format!(
            "of shape {shape:?} has {} bytes of codes, {} magnitudes and {} values; {}, {blocks} and 16 are expected",
            codes.count(),
            magnitudes.count(),
            values.len(),
            (count + 1) / 2
        )));
    }
    let magnitudes = match state.nested_offset {
        None => Magnitudes::Plain(own(magnitudes)?.f_to_kind(Kind::Float)?),
        Some(offset) => {
            let nested = Nested {
                codes: own(magnitudes)?,
                scales: own(find("nested_absmax")?)?.f_to_kind(Kind::Float)?,
                values: own(find("nested_quant_map")?)?.f_to_kind(Kind::Float)?,
                offset,
            };
            nested.check(blocks).map_err(refuse)?;
            Magnitudes::Nested(nested)
        }
    };
    Nf4::new(own(codes)?, magnitudes, &values, shape, kind)
}
