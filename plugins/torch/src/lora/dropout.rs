//! Counter-based dropout: the mask is a function of seed, layer and element, so that a forward pass can be recomputed
//! with the same mask (gradient checkpointing) on any device.

use std::sync::atomic::{AtomicU64, Ordering};

use tch::{Kind, Tensor};

use crate::error::Result;

/// Dropout state shared by all layers of an adapter: probability, and seed of the current forward pass.
pub(crate) struct Dropout {
    share: f64,
    /// 0 outside of training, which disables dropout.
    seed: AtomicU64,
}

impl Dropout {
    pub(super) fn new(share: f64) -> Self {
        Self { share, seed: AtomicU64::new(0) }
    }

    /// Enables dropout with masks of a seed; `None` disables it.
    pub(super) fn seed(&self, seed: Option<u64>) {
        self.seed.store(seed.map_or(0, |seed| seed | 1), Ordering::Relaxed);
    }

    /// Returns whether inputs are dropped out now.
    pub(super) fn is_active(&self) -> bool {
        self.share > 0.0 && self.seed.load(Ordering::Relaxed) != 0
    }

    /// Applies inverted dropout; `salt` distinguishes layers.
    pub(super) fn apply(&self, x: &Tensor, salt: u64) -> Result<Tensor> {
        if !self.is_active() {
            return Ok(x.shallow_clone());
        }
        let seed = self.seed.load(Ordering::Relaxed);
        let kept = draws(x, seed ^ salt)?.f_ge(self.share * RANGE)?.f_to_kind(x.kind())?;
        Ok(x.f_mul(&kept.f_mul_scalar(1.0 / (1.0 - self.share))?)?)
    }
}

const RANGE: f64 = (1_u64 << 32) as f64;

/// Draws an integer in [0, 2^32) for each element of `x`: the upper half of SplitMix64 of its index
/// (doi 10.1145/2660193.2660195).
fn draws(x: &Tensor, seed: u64) -> Result<Tensor> {
    let wrap = |value: u64| value as i64;
    // Right shifts of signed integers extend the sign; the mask clears those bits.
    let shifted = |t: &Tensor, by: i64| -> Result<Tensor> {
        let mask = (1_i64 << (64 - by)) - 1;
        Ok(t.f_bitwise_right_shift_tensor_scalar(by)?.f_bitwise_and(mask)?)
    };
    let counter = Tensor::f_arange(x.numel() as i64, (Kind::Int64, x.device()))?;
    let start = wrap(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut z = counter.f_mul_scalar(wrap(0x9E37_79B9_7F4A_7C15))?.f_add_scalar(start)?;
    for (by, factor) in [(30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)] {
        z = z.f_bitwise_xor_tensor(&shifted(&z, by)?)?.f_mul_scalar(wrap(factor))?;
    }
    z = z.f_bitwise_xor_tensor(&shifted(&z, 31)?)?;
    Ok(shifted(&z, 32)?.f_view(x.size().as_slice())?)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn a_mask_depends_on_seed_and_layer_only_and_keeps_the_mean() {
        let dropout = Dropout::new(0.25);
        let x = Tensor::ones([200, 500], (Kind::Float, Device::Cpu));
        assert_eq!(dropout.apply(&x, 5).unwrap(), x, "nothing is dropped outside of training");
        dropout.seed(Some(7));
        let first = dropout.apply(&x, 5).unwrap();
        assert_eq!(dropout.apply(&x, 5).unwrap(), first);
        assert_ne!(dropout.apply(&x, 6).unwrap(), first);
        let zeros = f64::try_from(first.eq(0.0).to_kind(Kind::Float).mean(Kind::Double)).unwrap();
        assert!((zeros - 0.25).abs() < 0.005, "{zeros}");
        let mean = f64::try_from(first.mean(Kind::Double)).unwrap();
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        // Neither rows nor columns share a fate.
        let spread = |dim: i64| {
            let zeros = first.eq(0.0).to_kind(Kind::Float);
            let means = zeros.mean_dim([dim].as_slice(), false, Kind::Float);
            (f64::try_from(means.max()).unwrap(), f64::try_from(means.min()).unwrap())
        };
        for (most, least) in [spread(0), spread(1)] {
            assert!(most < 0.45 && least > 0.08, "{most} {least}");
        }
        dropout.seed(Some(9));
        assert_ne!(dropout.apply(&x, 5).unwrap(), first);
        dropout.seed(None);
        assert_eq!(dropout.apply(&x, 5).unwrap(), x);
    }
}
