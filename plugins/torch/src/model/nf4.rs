//! Weights in 4 bits: NF4 of QLoRA (arXiv 2305.14314) as bitsandbytes' `Linear4bit` has it (0.50).
//!
//! A weight `[out, in]`, row by row, is divided into blocks of 64 elements. A block is stored as its largest magnitude and, for
//! each element divided by it, the index of the nearest of 16 values, two indices to a byte, the first in the upper half.
//! With double quantisation the magnitudes, less their mean, are 8-bit themselves: blocks of 256 with the values of the
//! dynamic map. A product decodes the weight, and so does its backward pass; nothing keeps the decoded weight in between.

use isr_api::FingerprintBuilder;
use serde::Deserialize;
use tch::{Kind, Tensor};

use super::product;
use crate::error::Result;
use crate::operators::{self, Blocks};
use crate::tensors::bytes_of;
use crate::train::dynamic_map;

/// Elements of a block.
pub(crate) const BLOCK: i64 = 64;

/// Magnitudes of a block of doubly quantised weights.
const NESTED_BLOCK: i64 = 256;

/// Values of NF4 (arXiv 2305.14314, appendix E): quantiles of a normal distribution, scaled to [-1, 1].
pub(crate) const VALUES: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// Weight `[out, in]` in 4 bits. It is never trained.
pub(crate) struct Nf4 {
    /// Two indices a byte, `[ceil(out * in / 2)]`.
    codes: Tensor,
    magnitudes: Magnitudes,
    /// Values of the 256 pairs of indices, as pairs of float32 in an int64, `[256]`.
    pairs: Tensor,
    shape: [i64; 2],
    /// Dtype of the decoded weight.
    kind: Kind,
}

/// Largest magnitude of each block.
pub(crate) enum Magnitudes {
    /// `[blocks]`, float32.
    Plain(Tensor),
    Nested(Nested),
}

/// Magnitudes in 8 bits.
pub(crate) struct Nested {
    /// Indices of `values`, `[blocks]`, bytes.
    pub(crate) codes: Tensor,
    /// Largest magnitude of each block of 256, float32.
    pub(crate) scales: Tensor,
    /// `[256]`, float32.
    pub(crate) values: Tensor,
    /// Mean of the magnitudes, which is taken off before.
    pub(crate) offset: f64,
}

/// What `quant_state.bitsandbytes__nf4` says, as JSON.
#[derive(Debug, Deserialize)]
pub(crate) struct State {
    pub(crate) quant_type: String,
    pub(crate) blocksize: i64,
    pub(crate) shape: Vec<i64>,
    #[serde(default)]
    pub(crate) nested_blocksize: Option<i64>,
    #[serde(default)]
    pub(crate) nested_offset: Option<f64>,
}

impl State {
    /// Checks that the weight is of the kind that this module decodes, and of the shape that the model has.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn check(&self, expected: Option<&[i64]>) -> std::result::Result<[i64; 2], String> {
        if self.quant_type != "nf4" || self.blocksize != BLOCK {
            let (kind, block) = (&self.quant_type, self.blocksize);
            return Err(format!("is {kind} in blocks of {block}; nf4 in blocks of {BLOCK} is supported"));
        }
        if self.nested_blocksize.is_some_and(|block| block != NESTED_BLOCK) {
            return Err(format!(
                "has magnitudes in blocks of {:?}; {NESTED_BLOCK} is supported",
                self.nested_blocksize
            ));
        }
        match (<[i64; 2]>::try_from(self.shape.as_slice()), expected) {
            (Ok(shape), Some(expected)) if shape == expected => Ok(shape),
            _ => Err(format!("has shape {:?}, expected {expected:?}", self.shape)),
        }
    }
}

impl Nested {
    /// Checks dtypes and sizes for a number of blocks.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn check(&self, blocks: i64) -> std::result::Result<(), String> {
        let (scales, values) = (self.scales.numel() as i64, self.values.numel());
        let expected = (blocks + NESTED_BLOCK - 1) / NESTED_BLOCK;
        match self.codes.kind() == Kind::Uint8 && scales == expected && values == 256 {
            true => Ok(()),
            false => Err(format!(
                "has magnitudes of type {:?} with {scales} scales and {values} values; bytes with {expected} and 256 are \
                 expected",
                self.codes.kind()
            )),
        }
    }
}

impl Magnitudes {
    /// Returns the magnitudes in float32.
    fn decoded(&self) -> Result<Tensor> {
        match self {
            Self::Plain(values) => Ok(values.shallow_clone()),
            Self::Nested(Nested { codes, scales, values, offset }) => {
                let count = codes.size()[0];
                let chosen = values.f_index_select(0, &codes.f_to_kind(Kind::Int)?)?;
                let scales = scales.f_repeat_interleave_self_int(NESTED_BLOCK, 0, None::<i64>)?;
                Ok(chosen.f_mul(&scales.f_narrow(0, 0, count)?)?.f_add_scalar(*offset)?)
            }
        }
    }

    fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Self::Plain(values) => vec![values],
            Self::Nested(Nested { codes, scales, values, .. }) => vec![codes, scales, values],
        }
    }
}

impl Nf4 {
    /// Takes codes and magnitudes as they are stored; decoded weights are of `kind`.
    pub(crate) fn new(
        codes: Tensor,
        magnitudes: Magnitudes,
        values: &[f32],
        shape: [i64; 2],
        kind: Kind,
    ) -> Result<Self> {
        let pairs: Vec<i64> = (0..256_usize)
            .map(|byte| {
                let [first, second] = [byte >> 4, byte & 15].map(|index| values[index].to_bits());
                i64::from_le_bytes((u64::from(second) << 32 | u64::from(first)).to_le_bytes())
            })
            .collect();
        let pairs = Tensor::f_from_slice(&pairs)?.f_to_device(codes.device())?;
        Ok(Self { codes: codes.f_flatten(0, -1)?, magnitudes, pairs, shape, kind })
    }

    /// Quantises a weight `[out, in]`.
    pub(crate) fn quantise(weight: &Tensor, double: bool) -> Result<Self> {
        tch::no_grad(|| {
            let (kind, shape) = (weight.kind(), <[i64; 2]>::from(weight.size2()?));
            let flat = weight.f_detach()?.f_to_kind(Kind::Float)?.f_flatten(0, -1)?;
            let (indices, magnitudes) = encode(&flat, BLOCK, &VALUES)?;
            let even = padded(&indices, 2)?.f_view([-1, 2])?;
            let codes = even.f_select(1, 0)?.f_mul_scalar(16)?.f_add(&even.f_select(1, 1)?)?;
            let magnitudes = match double {
                true => Magnitudes::Nested(nested(&magnitudes)?),
                false => Magnitudes::Plain(magnitudes),
            };
            Self::new(codes.f_to_kind(Kind::Uint8)?, magnitudes, &VALUES, shape, kind)
        })
    }

    /// Returns the shape `[out, in]`.
    pub(crate) fn shape(&self) -> [i64; 2] {
        self.shape
    }

    /// Returns a handle of the same memory.
    pub(crate) fn share(&self) -> Self {
        let magnitudes = match &self.magnitudes {
            Magnitudes::Plain(values) => Magnitudes::Plain(values.shallow_clone()),
            Magnitudes::Nested(Nested { codes, scales, values, offset }) => Magnitudes::Nested(Nested {
                codes: codes.shallow_clone(),
                scales: scales.shallow_clone(),
                values: values.shallow_clone(),
                offset: *offset,
            }),
        };
        let (codes, pairs) = (self.codes.shallow_clone(), self.pairs.shallow_clone());
        Self { codes, magnitudes, pairs, shape: self.shape, kind: self.kind }
    }

    /// Returns the decoded weight `[out, in]`.
    pub(crate) fn decoded(&self) -> Result<Tensor> {
        let magnitudes = self.magnitudes.decoded()?;
        operators::decode_nf4(&self.blocks(&magnitudes))
    }

    /// Computes `x W^T + b`. Of the graph, codes and magnitudes are kept.
    pub(crate) fn linear(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let magnitudes = self.magnitudes.decoded()?;
        let blocks = self.blocks(&magnitudes);
        let value = tch::no_grad(|| product::linear(x, &operators::decode_nf4(&blocks)?, bias))?;
        match x.requires_grad() {
            true => operators::nf4_linear(x, &value, &blocks, product::widens(x)),
            false => Ok(value),
        }
    }

    fn blocks<'b>(&'b self, magnitudes: &'b Tensor) -> Blocks<'b> {
        Blocks { codes: &self.codes, magnitudes, pairs: &self.pairs, shape: self.shape, kind: self.kind }
    }

    /// Returns the bytes that a weight of so many elements takes.
    pub(crate) fn bytes_of(count: u64, double: bool) -> u64 {
        let blocks = count.div_ceil(BLOCK as u64);
        count.div_ceil(2)
            + if double { blocks + 4 * blocks.div_ceil(NESTED_BLOCK as u64) } else { 4 * blocks }
    }

    /// Adds codes and magnitudes to a digest.
    pub(crate) fn digest_into(&self, builder: &mut FingerprintBuilder) -> Result<()> {
        for tensor in std::iter::once(&self.codes).chain(self.magnitudes.tensors()) {
            builder.update(&bytes_of(tensor)?);
        }
        if let Magnitudes::Nested(Nested { offset, .. }) = &self.magnitudes {
            builder.update(&offset.to_le_bytes());
        }
        Ok(())
    }
}

/// Returns, for flat float32 elements in blocks, the index of the nearest of the rising `values` to each element divided by its
/// block's largest magnitude, and these magnitudes.
fn encode(flat: &Tensor, block: i64, values: &[f32]) -> Result<(Tensor, Tensor)> {
    let count = flat.size()[0];
    let bounds: Vec<f32> = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
    let bounds = Tensor::f_from_slice(&bounds)?.f_to_device(flat.device())?;
    let blocks = padded(flat, block)?.f_view([-1, block])?;
    let magnitudes = blocks.f_abs()?.f_amax([1].as_slice(), false)?;
    // A block of zeros has codes of zero whatever it is divided by.
    let divisor = magnitudes.f_clamp_min(f64::from(f32::MIN_POSITIVE))?.f_unsqueeze(1)?;
    let scaled = blocks.f_div(&divisor)?;
    let indices = scaled.f_bucketize(&bounds, true, false)?;
    Ok((indices.f_flatten(0, -1)?.f_narrow(0, 0, count)?, magnitudes))
}

/// Quantises the magnitudes of blocks.
fn nested(magnitudes: &Tensor) -> Result<Nested> {
    let offset = magnitudes.f_mean(Kind::Float)?;
    let values = dynamic_map(true);
    let (codes, scales) = encode(&magnitudes.f_sub(&offset)?, NESTED_BLOCK, &values)?;
    Ok(Nested {
        codes: codes.f_to_kind(Kind::Uint8)?,
        scales,
        values: Tensor::f_from_slice(&values)?.f_to_device(magnitudes.device())?,
        offset: f64::try_from(&offset)?,
    })
}

/// Appends zeros up to a multiple of `block` elements.
fn padded(flat: &Tensor, block: i64) -> Result<Tensor> {
    let missing = (block - flat.size()[0] % block) % block;
    match missing {
        0 => Ok(flat.shallow_clone()),
        _ => Ok(flat.f_constant_pad_nd([0, missing])?),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::Device;

    use super::super::nf4_files;
    use super::*;
    use crate::tensors::TensorFolder;

    /// Codes, magnitudes and decoded weights of bitsandbytes 0.50.2 (`tests/golden/nf4.py`).
    #[test]
    fn codes_and_decoded_weights_are_those_of_bitsandbytes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/nf4.safetensors");
        let files = TensorFolder::open_file(&path).unwrap();
        let get = |name: &str| {
            let stored = files.tensors.iter().find(|stored| stored.name == name).unwrap();
            files.read(stored, files.any_kind(stored).unwrap(), Device::Cpu).unwrap()
        };
        let far = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap();
        let weight = get("weight");
        for (kind, double) in [("plain", false), ("nested", true)] {
            let ours = Nf4::quantise(&weight, double).unwrap();
            assert_eq!(ours.codes, get(&format!("{kind}.weight")).flatten(0, -1), "{kind}");
            // On a CPU, bitsandbytes finds 8-bit codes by a table, which may miss the nearest value by one.
            let allowed = if double { 0.02 } else { 1e-6 };
            let far = far(&ours.decoded().unwrap(), &get(&format!("{kind}.decoded")));
            assert!(far < allowed, "{kind}: {far}");
            let state = format!("{kind}.weight");
            let stored = files.tensors.iter().find(|stored| stored.name == state).unwrap();
            let read =
                nf4_files::read(&files, stored, Some(&[96, 168]), (Kind::Float, Device::Cpu)).unwrap();
            let difference = (read.decoded().unwrap() - get(&format!("{kind}.decoded"))).abs().max();
            assert!(f64::try_from(difference).unwrap() < 1e-6, "{kind}");
        }
        let values = Tensor::from_slice(&VALUES);
        assert_eq!(values, get("plain.weight.quant_map"));
    }

    /// The last block of a weight whose size is no multiple of 64, and an odd number of elements.
    #[test]
    fn a_last_block_may_be_short() {
        let weight = Tensor::randn([7, 13], (Kind::Float, Device::Cpu));
        let decoded = Nf4::quantise(&weight, false).unwrap().decoded().unwrap();
        let flat = weight.flatten(0, -1);
        for (start, length) in [(0, 64), (64, 27)] {
            let (given, got) =
                (flat.narrow(0, start, length), decoded.flatten(0, -1).narrow(0, start, length));
            let largest = f64::try_from(given.abs().max()).unwrap();
            // Half of the widest gap between values.
            assert!(f64::try_from((given - got).abs().max()).unwrap() <= 0.1521 * largest);
        }
        assert_eq!(
            Nf4::quantise(&weight.zeros_like(), true).unwrap().decoded().unwrap(),
            weight.zeros_like()
        );
    }

    /// The graph of a product gives the gradients of the decoded weight's, in bfloat16 as well.
    #[test]
    fn gradients_are_those_of_the_decoded_weight() {
        for (kind, allowed) in [(Kind::Float, 1e-5), (Kind::BFloat16, 0.05)] {
            let weight = Nf4::quantise(&Tensor::randn([24, 64], (kind, Device::Cpu)), true).unwrap();
            let x = Tensor::randn([5, 64], (kind, Device::Cpu)).set_requires_grad(true);
            let bias = Tensor::ones([24], (kind, Device::Cpu));
            let slope = Tensor::randn([5, 24], (kind, Device::Cpu));
            let gradient = |y: Tensor, x: &mut Tensor| {
                x.zero_grad();
                (y * &slope).sum(Kind::Float).backward();
                x.grad().copy().to_kind(Kind::Float)
            };
            let mut x = x;
            let ours = weight.linear(&x, Some(&bias)).unwrap();
            let wanted = product::linear(&x, &weight.decoded().unwrap(), Some(&bias)).unwrap();
            assert_eq!(ours, wanted);
            let (ours, wanted) = (gradient(ours, &mut x), gradient(wanted, &mut x));
            let far = f64::try_from((ours - wanted).abs().max()).unwrap();
            assert!(far < allowed, "{kind:?}: {far}");
        }
    }
}
