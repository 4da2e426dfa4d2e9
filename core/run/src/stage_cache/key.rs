//! The key of a stage's result: a digest of everything that the result depends on.

use isr_api::{Fingerprint, FingerprintBuilder, Stage};
use serde::Serialize;
use serde_json::Value;

use super::StageCache;

/// Config sections and keys (dotted paths) that a stage's result depends on, besides seed, weights and the
/// results of earlier stages. Every stage depends on `policy`, whose settings decide how weights are used.
pub fn sections(stage: Stage) -> &'static [&'static str] {
    match stage {
        Stage::Respond => {
            &["data", "video", "encoder", "policy", "sampler", "loop.responses", "loop.sampling"]
        }
        Stage::Retrospect => &["data", "video", "encoder", "policy", "sampler", "retrospector"],
        Stage::Judge => &["data", "video", "encoder", "policy", "sampler", "judge"],
        Stage::Preferences => &["video", "encoder", "policy"],
        Stage::Reference => &["data", "video", "encoder", "policy", "objective", "train.reference"],
        Stage::Train => &["data", "video", "encoder", "policy", "objective", "train"],
        Stage::Evaluate => &[
            "data",
            "video",
            "encoder",
            "policy",
            "sampler",
            "evaluator",
            "evaluation.max_new_tokens",
            "loop.sampling",
        ],
    }
}

/// Section and key of settings that change no result, left out of the key.
const IGNORED_KEYS: [(&str, &str); 1] = [("train", "snapshot_every")];

/// Inputs of a cache key besides the config.
pub(crate) struct CacheKeyInputs<'a, T> {
    pub(crate) stage: Stage,
    /// Iteration in the names of the stage's random streams.
    pub(crate) iteration: u32,
    pub(crate) seed: u64,
    /// Fingerprints of policy, video reader and encoder, and the encoder's device key; the last two are empty without an
    /// encoder.
    pub(crate) fingerprints: [String; 4],
    /// Digest of the identities of the run's videos.
    pub(crate) videos: &'a Fingerprint,
    /// The stage's items with the results of earlier stages, as JSON.
    pub(crate) items: &'a T,
}

/// Computes the key of a stage's result; `None` where the inputs have no JSON form.
pub(crate) fn cache_key<T: Serialize>(
    cache: &StageCache,
    inputs: &CacheKeyInputs<'_, T>,
) -> Option<Fingerprint> {
    let mut key = FingerprintBuilder::default();
    key.update(cache.code.as_str().as_bytes());
    key.update(inputs.stage.name().as_bytes());
    key.update(&inputs.iteration.to_le_bytes()).update(&inputs.seed.to_le_bytes());
    for part in &inputs.fingerprints {
        key.update(part.as_bytes());
    }
    key.update(inputs.videos.as_str().as_bytes());
    for path in sections(inputs.stage) {
        key.update(path.as_bytes()).update(section(&cache.settings, path).to_string().as_bytes());
    }
    key.update(&serde_json::to_vec(inputs.items).ok()?);
    Some(key.finish())
}

/// A section of a config without its ignored keys; null where it is not set.
fn section(settings: &Value, path: &str) -> Value {
    let section = path.split('.').try_fold(settings, |value, key| value.get(key));
    let mut section = section.cloned().unwrap_or_default();
    if let Value::Object(map) = &mut section {
        let ignored = IGNORED_KEYS.iter().filter(|(section, _)| *section == path);
        ignored.for_each(|(_, key)| drop(map.remove(*key)));
    }
    section
}
