//! The [`Sampler`] trait: an engine that samples responses in the policy's place.

use async_trait::async_trait;

use crate::error::ComponentError;
use crate::fingerprint::Fingerprint;
use crate::policy::{GenerateRequest, Policy};
use crate::response::Response;

/// An inference engine beside the policy, such as a vLLM server, that holds the policy's weights and samples from them.
///
/// # Contract
/// - `update` is called before the first `generate`, and again before the next one wherever the policy's weights have changed.
///   No `generate` is under way meanwhile.
/// - `generate` is called concurrently, and returns `request.n` responses with the token ids that were sampled, never tokenised
///   anew, and their log-probs by the engine at temperature 1 and without truncation. They are close to the policy's; training
///   recomputes the latter (`train.reference = "recompute"`).
/// - Responses come from the weights of the last `update`: an engine that may hold others, such as a server that was restarted,
///   is an error.
///
/// # Errors
/// [`ComponentError::BadInput`] for a request that the engine rejects (the sample is quarantined); [`ComponentError::Failed`]
/// for everything else, with which the run stops in a state that can be continued.
#[async_trait]
pub trait Sampler: Send + Sync {
    /// Takes over the policy's weights, for instance from a checkpoint that it [saves](Policy::save). `weights` is their
    /// fingerprint.
    async fn update(&self, policy: &dyn Policy, weights: &Fingerprint) -> Result<(), ComponentError>;

    /// Samples `request.n` responses. The fingerprint in them is not read.
    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError>;
}
