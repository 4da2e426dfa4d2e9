//! 8-bit moments: block-wise dynamic quantisation (Dettmers et al., arXiv 2110.02861, sections 2 and 3), with the maps and
//! the block size of bitsandbytes 0.50 (`functional.create_dynamic_map`, optimisers' block of 256).
//!
//! A block of 256 elements is stored as its largest magnitude, in float32, and a code for each element: the index of the
//! nearest of 256 values in [-1, 1] (first moment) or [0, 1] (second moment) to the element divided by that magnitude. A
//! step decodes a block, updates it in float32, uses the result for the weights, and encodes it again.
//! In bitsandbytes, a negative element whose nearest value is zero takes the value below; here it is zero.

use std::ops::Range;

use tch::{Device, Kind, Tensor};

use super::group::part;
use crate::error::Result;

/// Elements that share a scale.
pub(super) const BLOCK: i64 = 256;

/// Elements of a parameter below which its moments stay float32, as in bitsandbytes (`min_8bit_size`).
pub(super) const MIN_COUNT: i64 = 4096;

/// Values of both maps on a device.
pub(super) struct Maps {
    signed: Map,
    unsigned: Map,
}

struct Map {
    /// Rising values, `[256]` in float32.
    values: Tensor,
    /// Bounds between neighbours, `[255]` in float32.
    bounds: Tensor,
}

impl Maps {
    /// Creates the maps on a device.
    pub(super) fn on(device: Device) -> Result<Self> {
        Ok(Self {
            signed: Map::of(&dynamic_map(true), device)?,
            unsigned: Map::of(&dynamic_map(false), device)?,
        })
    }

    fn get(&self, signed: bool) -> &Map {
        if signed { &self.signed } else { &self.unsigned }
    }
}

impl Map {
    fn of(values: &[f32], device: Device) -> Result<Self> {
        let bounds: Vec<f32> = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        let on =
            |values: &[f32]| -> Result<Tensor> { Ok(Tensor::f_from_slice(values)?.f_to_device(device)?) };
        Ok(Self { values: on(values)?, bounds: on(&bounds)? })
    }
}

/// Returns the 256 values of the dynamic map, rising. For each of seven decimal exponents, fractions divide [0.1, 1] evenly:
/// twice as many for each larger exponent, and the same for both signs; then 0 and 1.
pub(crate) fn dynamic_map(signed: bool) -> Vec<f32> {
    let mut values = vec![0.0, 1.0];
    for exponent in 0..7 {
        let fractions = if signed { 1 << exponent } else { 2 << exponent };
        for index in 0..fractions {
            let middle = 0.1 + 0.9 * (f64::from(index) + 0.5) / f64::from(fractions);
            let value = middle * 10_f64.powi(exponent - 6);
            values.push(value);
            if signed {
                values.push(-value);
            }
        }
    }
    values.sort_by(f64::total_cmp);
    values.into_iter().map(|value| value as f32).collect()
}

/// A moment as codes and scales.
pub(super) struct Quantised {
    /// `[count]`, unsigned bytes.
    pub(super) codes: Tensor,
    /// Largest magnitude of each block, `[ceil(count / 256)]` in float32.
    pub(super) scales: Tensor,
    signed: bool,
}

impl Quantised {
    /// Creates a moment of zeros.
    pub(super) fn zeros(count: i64, signed: bool, device: Device) -> Result<Self> {
        let codes = Tensor::f_zeros([count], (Kind::Uint8, device))?;
        let scales = Tensor::f_zeros([blocks(count)], (Kind::Float, device))?;
        Ok(Self { codes, scales, signed })
    }

    /// Decodes some elements, which begin at a block.
    pub(super) fn values(&self, range: &Range<i64>, maps: &Maps) -> Result<Tensor> {
        let codes = part(&self.codes, range)?.f_to_kind(Kind::Int)?;
        let values = maps.get(self.signed).values.f_index_select(0, &codes)?;
        let scaled = in_blocks(&values)?.f_mul(&self.scales_of(range)?.f_unsqueeze(1)?)?;
        part(&scaled.f_view([-1])?, &(0..codes.numel() as i64))
    }

    /// Encodes some elements, which begin at a block.
    pub(super) fn store(&mut self, range: &Range<i64>, values: &Tensor, maps: &Maps) -> Result<()> {
        let rows = in_blocks(values)?;
        let scales = rows.f_abs()?.f_amax([1].as_slice(), false)?;
        self.scales_of(range)?.f_copy_(&scales)?;
        // A block of zeros is divided by one.
        let divisors = scales.f_masked_fill(&scales.f_eq(0.0)?, 1.0)?;
        let relative = rows.f_div(&divisors.f_unsqueeze(1)?)?;
        let codes = relative.f_bucketize(&maps.get(self.signed).bounds, true, false)?.f_view([-1])?;
        let codes = part(&codes, &(0..range.end - range.start))?;
        Ok(part(&self.codes, range)?.f_copy_(&codes)?)
    }

    fn scales_of(&self, range: &Range<i64>) -> Result<Tensor> {
        part(&self.scales, &(range.start / BLOCK..blocks(range.end)))
    }
}

/// Returns the number of blocks of so many elements.
pub(super) fn blocks(count: i64) -> i64 {
    count.div_euclid(BLOCK) + i64::from(count.rem_euclid(BLOCK) > 0)
}

/// Returns flat values as `[blocks, 256]`, with zeros behind the last.
fn in_blocks(values: &Tensor) -> Result<Tensor> {
    let count = values.numel() as i64;
    let missing = blocks(count) * BLOCK - count;
    let padded = if missing > 0 { values.f_constant_pad_nd([0, missing])? } else { values.shallow_clone() };
    Ok(padded.f_view([-1, BLOCK])?)
}
