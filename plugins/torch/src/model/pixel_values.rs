//! Input of a vision tower.

use tch::Tensor;

/// Grid of patches of a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PatchGrid {
    /// Patches along time.
    pub(crate) steps: i64,
    /// Patches from top to bottom.
    pub(crate) height: i64,
    /// Patches from left to right.
    pub(crate) width: i64,
}

/// Preprocessed pixels of one video (`pixel_values_videos` of transformers).
pub(crate) struct PixelValues {
    /// `[frames, 3, side, side]` for CLIP, SigLIP and InternViT; `[patches, 3 * temporal_patch * patch * patch]` for Qwen-VL.
    pub(crate) pixels: Tensor,
    /// Patch grid of Qwen-VL; otherwise `frames` steps of `1 x 1`.
    pub(crate) grid: PatchGrid,
}
