//! Matrix products, convolutions and attention. On a CPU without bfloat16 instructions, libtorch's bfloat16
//! products take two hundred times as long as those of float32; there they are computed in float32 and rounded,
//! as the instructions themselves do, which accumulate in float32. Weights and activations stay bfloat16 in memory.

use std::sync::OnceLock;

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Maximum number of rows for which a CPU computes `W x^T` instead of `x W^T`: it then reads the weight without
/// packing it first, up to four times as fast (8 rows of 512 x 32,000 in float32: 9 ms instead of 34).
const FEW_ROWS: i64 = 16;

/// Minimum number of rows for which a float32 product is computed as a `1 x 1` convolution, if [`convolves`].
const MANY_ROWS: i64 = 128;

/// Computes `x W^T + b` for `x` `[.., in]` and `W` `[out, in]`.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if !widens(x) {
        return by_weight(x, weight, bias);
    }
    let bias = bias.map(wide).transpose()?;
    Ok(by_weight(&wide(x)?, &wide(weight)?, bias.as_ref())?.f_to_kind(x.kind())?)
}

/// Computes `x W^T + b` by the fastest route for the device and the number of rows.
fn by_weight(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut shape = x.size();
    let width = shape.pop().unwrap_or_default();
    let rows: i64 = shape.iter().product();
    if x.device() != Device::Cpu || width == 0 {
        return Ok(x.f_linear(weight, bias)?);
    }
    shape.push(weight.size()[0]);
    match rows {
        ..=FEW_ROWS => {
            let columns = x.f_reshape([rows, width])?.f_transpose(0, 1)?;
            let y = match bias {
                // One rounding, where the type is narrow.
                Some(bias) => bias.f_unsqueeze(1)?.f_addmm(weight, &columns)?,
                None => weight.f_mm(&columns)?,
            };
            Ok(y.f_transpose(0, 1)?.f_contiguous()?.f_view(&*shape)?)
        }
        MANY_ROWS.. if convolves(x.kind()) => {
            let pixels = x.f_reshape([1, rows, 1, width])?.f_permute([0, 3, 1, 2])?;
            let kernel = weight.f_unsqueeze(2)?.f_unsqueeze(3)?;
            let y = pixels.f_conv2d(&kernel, bias, [1, 1], [0, 0], [1, 1], 1)?;
            Ok(y.f_permute([0, 2, 3, 1])?.f_reshape(&*shape)?)
        }
        _ => Ok(x.f_linear(weight, bias)?),
    }
}

/// Multiplies matrices on the last two axes, `[.., n, k]` by `[.., k, m]`.
pub(crate) fn matmul(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    match widens(a) {
        true => Ok(wide(a)?.f_matmul(&wide(b)?)?.f_to_kind(a.kind())?),
        false => Ok(a.f_matmul(b)?),
    }
}

/// Convolves `[batch, in, height, width]` with a kernel, without bias and padding.
pub(crate) fn convolution(x: &Tensor, kernel: &Tensor, stride: i64) -> Result<Tensor> {
    let apply =
        |x: &Tensor, kernel: &Tensor| x.f_conv2d(kernel, None::<&Tensor>, [stride; 2], [0, 0], [1, 1], 1);
    match widens(x) {
        true => Ok(apply(&wide(x)?, &wide(kernel)?)?.f_to_kind(x.kind())?),
        false => Ok(apply(x, kernel)?),
    }
}

/// Attention mask.
#[derive(Clone, Copy)]
pub(crate) enum Mask<'a> {
    /// Every query attends to every key.
    Full,
    /// Each query attends to keys at its own position and before it.
    Causal,
    /// Queries attend where the boolean tensor `[queries, keys]` is true.
    Custom(&'a Tensor),
}

/// Computes scaled dot-product attention of `[batch, heads, length, width]`. Keys and values may have fewer heads,
/// each shared by a group of neighbouring query heads (grouped-query attention).
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask<'_>) -> Result<Tensor> {
    let grouped = q.size()[1] != k.size()[1];
    let (mask, causal) = match mask {
        Mask::Full => (None, false),
        Mask::Causal => (None, true),
        Mask::Custom(mask) => (Some(mask), false),
    };
    let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
        Tensor::f_scaled_dot_product_attention(q, k, v, mask, 0.0, causal, None, grouped)
    };
    match widens(q) {
        true => Ok(attend(&wide(q)?, &wide(k)?, &wide(v)?)?.f_to_kind(q.kind())?),
        false => Ok(attend(q, k, v)?),
    }
}

/// Converts to float32.
fn wide(tensor: &Tensor) -> Result<Tensor> {
    Ok(tensor.f_to_kind(Kind::Float)?)
}

/// Returns whether products of a tensor are computed in float32 instead of its own type.
pub(super) fn widens(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::BFloat16 && !multiplies_bfloat16()
}

/// Returns whether oneDNN, libtorch's backend for convolutions, multiplies faster than MKL, its backend for
/// products: MKL does not use the AVX-512 of AMD's CPUs (2,190 rows of 512 x 1,376 and their gradients on two cores
/// of one: 410 GFLOP/s instead of 203). The CPU alone decides, so a machine's results stay the same.
fn convolves(kind: Kind) -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    let known = || {
        #[cfg(target_arch = "x86_64")]
        let found = {
            let vendor = std::arch::x86_64::__cpuid(0);
            let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
            name.as_flattened() == b"AuthenticAMD" && std::arch::is_x86_feature_detected!("avx512f")
        };
        #[cfg(not(target_arch = "x86_64"))]
        let found = false;
        found
    };
    kind == Kind::Float && *KNOWN.get_or_init(known)
}

/// Returns whether this CPU has bfloat16 product instructions.
fn multiplies_bfloat16() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        let found = std::arch::is_x86_feature_detected!("avx512bf16");
        #[cfg(target_arch = "aarch64")]
        let found = std::arch::is_aarch64_feature_detected!("bf16");
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let found = false;
        found
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Few rows, some and many: whichever way a product is taken, it and its gradients are those of float64.
    #[test]
    fn a_product_of_any_number_of_rows_is_that_of_float64() {
        tch::manual_seed(5);
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let double = |t: &Tensor| t.detach().to_kind(Kind::Double).set_requires_grad(true);
        for rows in [1, FEW_ROWS, FEW_ROWS + 1, MANY_ROWS - 1, MANY_ROWS, 2 * MANY_ROWS + 3] {
            for with_bias in [false, true] {
                let single = [random(&[rows, 48]), random(&[80, 48]), random(&[80])]
                    .map(|t| t.set_requires_grad(true));
                let exact = single.each_ref().map(double);
                let slope = random(&[rows, 80]);
                let [x, weight, bias] = &single;
                let ours = linear(x, weight, with_bias.then_some(bias)).unwrap();
                assert_eq!(ours.size(), [rows, 80]);
                let [x, weight, bias] = &exact;
                let wanted = x.linear(weight, with_bias.then_some(bias));
                let far = |a: &Tensor, b: &Tensor| f64::try_from((a - b).abs().max()).unwrap();
                assert!(far(&ours, &wanted) < 1e-4, "{rows} rows");
                (&ours * &slope).sum(Kind::Float).backward();
                (&wanted * &slope).sum(Kind::Double).backward();
                for (ours, wanted) in single.iter().zip(&exact).take(2 + usize::from(with_bias)) {
                    assert!(far(&ours.grad(), &wanted.grad()) < 2e-4, "gradients of {rows} rows");
                }
            }
        }
    }

    /// Whatever the CPU has: products of bfloat16 are those of float32, rounded once.
    #[test]
    fn a_product_in_bfloat16_is_the_float32_product_rounded() {
        tch::manual_seed(3);
        let random =
            |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16);
        let (x, weight, bias) = (random(&[5, 64]), random(&[48, 64]), random(&[48]));
        let float = |t: &Tensor| t.to_kind(Kind::Float);
        let near = |rounded: &Tensor, exact: &Tensor| {
            assert_eq!(rounded.kind(), Kind::BFloat16);
            let worst = (float(rounded) - exact).abs() / exact.abs().clamp_min(1.0);
            let worst = f64::try_from(worst.max()).unwrap();
            assert!(worst < 2.0_f64.powi(-8), "{worst}");
        };
        let exact = float(&x).linear(&float(&weight), Some(&float(&bias)));
        near(&linear(&x, &weight, Some(&bias)).unwrap(), &exact);
        near(
            &matmul(&x, &weight.transpose(0, 1)).unwrap(),
            &float(&x).matmul(&float(&weight).transpose(0, 1)),
        );
        let (q, k, v) = (random(&[1, 4, 7, 16]), random(&[1, 2, 7, 16]), random(&[1, 2, 7, 16]));
        let (q32, k32, v32) = (float(&q), float(&k), float(&v));
        for (mask, causal) in [(Mask::Full, false), (Mask::Causal, true)] {
            let none: Option<&Tensor> = None;
            let exact =
                Tensor::scaled_dot_product_attention(&q32, &k32, &v32, none, 0.0, causal, None, true);
            let ours = attention(&q, &k, &v, mask).unwrap();
            assert!(f64::try_from((float(&ours) - exact).abs().max()).unwrap() < 0.02);
        }
    }
}
