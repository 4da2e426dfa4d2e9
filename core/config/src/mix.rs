//! [`MixConfig`], an entry of `loop.mix`.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::validate::{Checks, keys};
use crate::registry::PreferencesConfig;

/// Dataset of preference pairs that iterations train on beside the pairs that they sample and judge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixConfig {
    /// The dataset.
    pub preferences: PreferencesSection,
    /// Share of an iteration's pairs that it has, in (0, 1]; drawn anew in each iteration, without replacement. Where the
    /// shares of an iteration add up to 1, it samples and judges nothing.
    pub share: f64,
    /// Iterations that use it, from 1. Default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub iterations: Vec<u32>,
}

/// A component section `preferences` that can be cloned and compared.
#[derive(Clone, Debug)]
pub struct PreferencesSection(Arc<dyn PreferencesConfig>);

impl Deref for PreferencesSection {
    type Target = dyn PreferencesConfig;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref()
    }
}

impl PartialEq for PreferencesSection {
    fn eq(&self, other: &Self) -> bool {
        serde_json::to_value(self).ok() == serde_json::to_value(other).ok()
    }
}

impl Serialize for PreferencesSection {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for PreferencesSection {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<dyn PreferencesConfig>::deserialize(from)?.into()))
    }
}

impl JsonSchema for PreferencesSection {
    fn schema_name() -> Cow<'static, str> {
        <dyn PreferencesConfig>::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        <dyn PreferencesConfig>::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <dyn PreferencesConfig>::json_schema(generator)
    }
}

/// Adds the invalid values of `loop.mix` for a run of so many iterations.
pub(super) fn check(mix: &[MixConfig], iterations: u32, checks: &mut Checks) {
    for (place, entry) in mix.iter().enumerate() {
        let at = format!("mix[{place}]");
        let share = entry.share > 0.0 && entry.share <= 1.0;
        checks.require(share, &format!("{at}.share"), entry.share, "in (0, 1]");
        let first = !entry.iterations.contains(&0);
        checks.require(first, &format!("{at}.iterations"), 0, "1 or more");
        let part = &entry.preferences;
        checks.part(&format!("{at}.preferences"), &keys(part), part.validate());
    }
    let used = |entry: &&MixConfig, t: u32| entry.iterations.is_empty() || entry.iterations.contains(&t);
    // A long run repeats its shares: those of iterations that no entry names are equal.
    let named = mix.iter().flat_map(|entry| entry.iterations.iter().copied());
    for t in named.chain([iterations]) {
        let sum: f64 = mix.iter().filter(|entry| used(entry, t)).map(|entry| entry.share).sum();
        if sum > 1.0 + 1e-9 {
            checks.add("mix", format!("has shares that add up to {sum} in iteration {t}; 1 is the most"));
            return;
        }
    }
}
