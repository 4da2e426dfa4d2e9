//! Deserialisation of sampling settings with a component's own defaults.

use isr_api::Sampling;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// Deserialises sampling settings; missing keys take their value from `default`, which may differ from
/// [`Sampling::default`].
pub(crate) fn over<'de, D: Deserializer<'de>>(
    default: &Sampling,
    deserializer: D,
) -> Result<Sampling, D::Error> {
    let given = serde_json::Map::deserialize(deserializer)?;
    let mut merged = serde_json::to_value(default).map_err(D::Error::custom)?;
    if let Some(object) = merged.as_object_mut() {
        object.extend(given);
    }
    serde_json::from_value(merged).map_err(D::Error::custom)
}
