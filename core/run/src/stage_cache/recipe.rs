//! What a stage's result depends on.

use isr_api::{Fingerprint, FingerprintBuilder, Stage};
use serde::Serialize;
use serde_json::Value;

use super::StageCache;

/// The sections and keys of a run's config that a stage's result depends on, by dotted path, beside its seed,
/// weights, and what earlier stages left it. `policy` is among those of all stages: its settings decide how weights
/// are used.
pub fn sections(stage: Stage) -> &'static [&'static str] {
    match stage {
        Stage::Respond => &["data", "video", "encoder", "policy", "loop.responses", "loop.sampling"],
        Stage::Retrospect => &["data", "video", "encoder", "policy", "retrospector"],
        Stage::Judge => &["data", "video", "encoder", "policy", "judge"],
        Stage::Reference => &["data", "video", "encoder", "policy", "objective"],
        Stage::Train => &["data", "video", "encoder", "policy", "objective", "train"],
        Stage::Evaluate => &[
            "data",
            "video",
            "encoder",
            "policy",
            "evaluator",
            "evaluation.max_new_tokens",
            "loop.sampling",
        ],
    }
}

/// Keys of those sections that change no result, with their sections.
const NO_MATTER: [(&str, &str); 1] = [("train", "snapshot_every")];

/// What a stage is made from, beside the config.
pub(crate) struct Ingredients<'a, T> {
    pub(crate) stage: Stage,
    /// The iteration that its random streams are named by.
    pub(crate) iteration: u32,
    pub(crate) seed: u64,
    /// Fingerprints of weights, frames and encoder, and what the last runs on.
    pub(crate) made_with: [String; 4],
    /// Its items, with what earlier stages left for them.
    pub(crate) inputs: &'a T,
}

/// The name of a stage's result; `None` where something of it has no JSON form.
pub(crate) fn name<T: Serialize>(cache: &StageCache, from: &Ingredients<'_, T>) -> Option<Fingerprint> {
    let mut name = FingerprintBuilder::default();
    name.update(cache.code.as_str().as_bytes());
    name.update(from.stage.name().as_bytes());
    name.update(&from.iteration.to_le_bytes()).update(&from.seed.to_le_bytes());
    for part in &from.made_with {
        name.update(part.as_bytes());
    }
    for path in sections(from.stage) {
        name.update(path.as_bytes()).update(section(&cache.settings, path).to_string().as_bytes());
    }
    name.update(&serde_json::to_vec(from.inputs).ok()?);
    Some(name.finish())
}

/// A section of a config, without what changes no result; null where it is not set.
fn section(settings: &Value, path: &str) -> Value {
    let section = path.split('.').try_fold(settings, |value, key| value.get(key));
    let mut section = section.cloned().unwrap_or_default();
    if let Value::Object(map) = &mut section {
        let no_matter = NO_MATTER.iter().filter(|(section, _)| *section == path);
        no_matter.for_each(|(_, key)| drop(map.remove(*key)));
    }
    section
}
