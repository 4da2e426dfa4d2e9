//! The [`Retrospector`] trait: visual contexts, refined from iteration to iteration.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::ComponentError;
use crate::policy::FrozenPolicy;
use crate::video::VideoInput;

/// The visual context c_t of a video: a description in text, which the judge reads as evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VisualContext {
    /// Key of the video ([`VideoInput::key`]).
    pub video: String,
    /// Iteration t in which it was written, from 1.
    pub iteration: u32,
    /// Iteration of the context that it was conditioned on; `None` for a video's first context.
    pub parent: Option<u32>,
    /// Key of the video that the parent describes, where that is another one (`loop.previous_context = "other"`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_of: Option<String>,
    /// The description.
    pub text: String,
}

/// The input of one [`Retrospector`] call.
#[derive(Clone, Debug)]
pub struct RetrospectionCase {
    /// The video.
    pub scene: VideoInput,
    /// The previous context c_{t-1}: the video's own, or in a control another video's; `None` where there is none yet.
    pub previous: Option<VisualContext>,
    /// Seed of this call's random draws.
    pub seed: u64,
}

/// Writes the visual context of a video: c_t ~ pi_t(V, c_{t-1}) (ISR-DPO, arXiv 2406.11280).
///
/// # Contract
/// - Returns a non-empty description of `case.scene`. Of earlier iterations it may use `case.previous` only.
/// - Draws randomness from `case.seed` only, so that a resumed run writes the same context.
/// - Called concurrently, once per video and iteration.
///
/// # Errors
/// [`ComponentError::BadInput`] quarantines the samples of this video.
#[async_trait]
pub trait Retrospector: Send + Sync {
    /// Writes the description.
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError>;
}
