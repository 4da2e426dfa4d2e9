//! The third trait: describes a video with its previous description in view.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ComponentError;
use crate::policy::FrozenPolicy;
use crate::video::VideoInput;

/// The text c_t that a retrospector wrote about a video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisualContext {
    /// The video, as [`VideoInput::key`] names it.
    pub video: String,
    /// The iteration t that wrote it, from 1.
    pub iteration: u32,
    /// The iteration of the context that it was conditioned on; `None` for the first.
    pub parent: Option<u32>,
    /// The description.
    pub text: String,
}

/// What a retrospector is asked.
#[derive(Clone, Debug)]
pub struct RetrospectionCase {
    /// The video.
    pub scene: VideoInput,
    /// c_{t-1}, where there is one.
    pub previous: Option<VisualContext>,
    /// Seed for every random draw of this case.
    pub seed: u64,
}

/// Writes the visual context of a video: c_t ~ pi_t(V, c_{t-1}) (arXiv 2406.11280).
///
/// # Contract
/// - Returns a description of `scene`, not empty. It may use `previous`, and nothing else of earlier
///   iterations.
/// - Draws randomness from `seed` alone, so a resumed run writes the same context.
/// - Safe to call concurrently, one call a video and iteration.
///
/// # Errors
/// [`ComponentError::BadInput`] quarantines the samples of this video.
#[async_trait]
pub trait Retrospector: Send + Sync {
    /// Describes the video.
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError>;
}
