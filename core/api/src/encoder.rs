//! The [`VideoEncoder`] trait.

use async_trait::async_trait;

use crate::error::ComponentError;
use crate::fingerprint::Fingerprint;
use crate::video::{Frames, VisualFeatures};

/// A frozen vision tower: maps frames to visual features, which the policy projects into its token space.
///
/// # Contract
/// - Features have shape `[frames, tokens, dim]`: one entry per frame, `tokens` and `dim` constant for one
///   encoder unless its documentation says otherwise.
/// - Deterministic: equal frames give equal bytes on the same device. The loop caches features under (video,
///   reader fingerprint, encoder fingerprint, device key), and of a reader that
///   [draws frames](crate::VideoReader::draws_frames) also under the frames.
/// - Never trained by the loop.
/// - Called concurrently. An implementation that benefits from batches forms them itself.
///
/// # Errors
/// [`ComponentError::BadInput`] for frames that it does not support (the sample is quarantined),
/// [`ComponentError::Failed`] for everything else.
#[async_trait]
pub trait VideoEncoder: Send + Sync {
    /// Returns a digest of weights, preprocessing and selected layer. Part of the cache key of features.
    fn fingerprint(&self) -> Fingerprint;

    /// Returns an identifier of everything besides weights that affects numerics (device, kernels, dtype of
    /// computation). Part of the on-disk cache key, so encoders with different keys share no cached features.
    /// Default: the empty string.
    fn device_key(&self) -> String {
        String::new()
    }

    /// Encodes all frames of one video.
    async fn encode(&self, frames: &Frames) -> Result<VisualFeatures, ComponentError>;
}
