//! Pooling of a frame's features over its grid of patches.

use tch::Tensor;

use crate::error::Result;

/// Pooling over squares of patches. `Average` and `Max` are those of `LlavaNextVideoPooler` of transformers 5, and drop
/// patches that fill no square; `Bilinear` is that of LLaVA-OneVision (`apply_pooling`), whose side is rounded up.
///
/// The `Debug` form is part of the encoder's fingerprint and must not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// Mean over squares of this side.
    Average(i64),
    /// Maximum over squares of this side.
    Max(i64),
    /// Bilinear interpolation without antialiasing to a grid smaller by this factor.
    Bilinear(i64),
}

impl Pool {
    /// Returns the side of the pooled grid of a grid of `side` patches along a side.
    pub(crate) fn side(self, side: i64) -> i64 {
        match self {
            Self::Average(stride) | Self::Max(stride) => side / stride,
            Self::Bilinear(stride) => side.unsigned_abs().div_ceil(stride.unsigned_abs()) as i64,
        }
    }

    /// Pools features `[frames, side * side, width]`.
    pub(crate) fn forward(self, patches: &Tensor, side: i64) -> Result<Tensor> {
        let (frames, _, width) = patches.size3()?;
        let image = patches.f_transpose(1, 2)?.f_reshape([frames, width, side, side])?;
        let pooled = match self {
            Self::Average(stride) => {
                image.f_avg_pool2d([stride; 2], [stride; 2], [0, 0], false, true, None)?
            }
            Self::Max(stride) => image.f_max_pool2d([stride; 2], [stride; 2], [0, 0], [1, 1], false)?,
            Self::Bilinear(_) => image.f_upsample_bilinear2d([self.side(side); 2], false, None, None)?,
        };
        Ok(pooled.f_flatten(2, 3)?.f_transpose(1, 2)?.f_contiguous()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `LLaVA-Video-7B-Qwen2` has 27 patches along a side; interpolation leaves 14 of them, a mean 13.
    #[test]
    fn interpolation_keeps_an_odd_side_and_squares_do_not() {
        assert_eq!(
            [Pool::Bilinear(2), Pool::Average(2), Pool::Max(2)].map(|pool| pool.side(27)),
            [14, 13, 13]
        );
        let line = Tensor::from_slice(&[0_f32, 1., 2., 0., 1., 2., 0., 1., 2.]).view([1, 9, 1]);
        let pooled = Pool::Bilinear(2).forward(&line, 3).unwrap();
        assert_eq!(Vec::<f32>::try_from(&pooled.view([4])).unwrap(), [0.25, 1.75, 0.25, 1.75]);
        let mean = Pool::Average(2).forward(&line, 3).unwrap();
        assert_eq!(Vec::<f32>::try_from(&mean.view([1])).unwrap(), [0.5]);
    }
}
