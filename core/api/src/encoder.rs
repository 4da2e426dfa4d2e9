//! The first of the five traits.

use async_trait::async_trait;

use crate::error::ComponentError;
use crate::fingerprint::Fingerprint;
use crate::video::{Frames, VisualFeatures};

/// Turns frames into visual features, which the policy projects into its token space.
///
/// # Contract
/// - Features have shape `[frames, tokens, dim]`, one entry a frame, tokens and dim constant for one
///   encoder unless its documentation says otherwise.
/// - Pure: the same frames give the same bytes on the same device. The loop caches features under
///   (video, reader fingerprint, encoder fingerprint) and relies on it.
/// - The encoder is frozen: nothing in the loop trains it.
/// - Safe to call concurrently; batch inside if that pays.
///
/// # Errors
/// [`ComponentError::BadInput`] for frames that it cannot take (the sample is quarantined),
/// [`ComponentError::Failed`] for everything else.
#[async_trait]
pub trait VideoEncoder: Send + Sync {
    /// Identifies weights, preprocessing and the layer taken.
    fn fingerprint(&self) -> Fingerprint;

    /// Names what else decides the last bits of features, such as the device. Features that are kept on
    /// disk are not shared between encoders that differ in it. Default: nothing.
    fn device_key(&self) -> String {
        String::new()
    }

    /// Encodes the frames of one video.
    async fn encode(&self, frames: &Frames) -> Result<VisualFeatures, ComponentError>;
}
