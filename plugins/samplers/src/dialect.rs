//! The [`Dialect`] of a server: what differs from one inference engine to another.

use std::path::PathBuf;

use isr_api::{ComponentError, Fingerprint, GenerateRequest, ReasoningFormat};
use serde_json::Value;

use crate::config::Media;

/// The policy's weights as a server is to hold them.
#[derive(Clone, Debug)]
pub(crate) struct Weights {
    /// Name made of their fingerprint, that of the adapter or the weight version on the server.
    pub(crate) name: String,
    /// What the server says at the paths of [`Dialect::served`]; null where it says nothing.
    pub(crate) served: Vec<Value>,
    pub(crate) checkpoint: PathBuf,
    pub(crate) is_adapter: bool,
    pub(crate) fingerprint: Fingerprint,
    /// How the policy writes reasoning.
    pub(crate) reasoning: Option<ReasoningFormat>,
}

/// Requests in order, after which a server holds weights.
pub(crate) struct Loading {
    /// Paths and bodies.
    pub(crate) calls: Vec<(&'static str, Value)>,
    /// How to start a server that does not refuse them.
    pub(crate) remedy: &'static str,
}

/// What a refusal says, where it is not about the one request.
pub(crate) enum Refusal {
    /// The server does not hold the weights.
    Lost,
    /// The server was not started as it must be: what it does not take, and the remedy.
    Setting(String),
}

/// Names, paths and bodies of an inference engine's HTTP interface. All of them answer `/health`, `/v1/models` and
/// `/v1/chat/completions`, and have adapters by name and a weight version.
pub(crate) trait Dialect: Send + Sync {
    /// Name of the sampler.
    fn name(&self) -> &'static str;

    /// First version whose replies have token ids.
    fn version(&self) -> &'static str;

    /// Environment variables of a server of ours, where the user has not set them.
    fn variables(&self) -> &'static [(&'static str, &'static str)];

    /// Path whose reply has the `weight_version`.
    fn version_path(&self) -> &'static str;

    /// Path that removes an adapter.
    fn unload_path(&self) -> &'static str;

    /// Paths at which the server says what bodies need to know of it.
    fn served(&self) -> &'static [&'static str];

    fn loading(&self, weights: &Weights) -> Loading;

    /// In what a video is known to be another than the policy's, for a warning.
    fn caveat(&self, _weights: &Weights, _media: Media) -> Option<&'static str> {
        None
    }

    /// The chat completion of response `index`, whose draws depend on its own seed.
    fn body(
        &self,
        request: &GenerateRequest,
        index: usize,
        weights: &Weights,
        media: Media,
    ) -> Result<Value, ComponentError>;

    /// Reads the refusal of a chat completion; `None` where it is about the request.
    fn refusal(&self, status: u16, text: &str, weights: &Weights) -> Option<Refusal>;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Weights on a server that says this of itself.
    pub(crate) fn weights(served: Vec<Value>, is_adapter: bool) -> Weights {
        Weights {
            name: "isr-1".to_owned(),
            served,
            checkpoint: "/w/isr-1".into(),
            is_adapter,
            fingerprint: Fingerprint::of("p"),
            reasoning: None,
        }
    }
}
