//! Merging of config layers.

use config::{Config, Map, Value, ValueKind};
use isr_api::Error;

use super::layer::Layer;

/// Merges layers, the lowest first: tables key by key, all other values by replacement.
///
/// A layer that changes the `type` of a table discards the lower layers' keys of that table, since another type
/// has other keys.
pub(super) fn merge(layers: &[Layer]) -> Result<Value, Error> {
    let mut merged = Config::default();
    for layer in layers {
        let alone = put(Config::default(), layer)?;
        forget_other_types(&mut merged.cache, &alone.cache);
        merged = put(merged, layer)?;
    }
    Ok(merged.cache)
}

fn put(below: Config, layer: &Layer) -> Result<Config, Error> {
    let builder = layer
        .assignments
        .iter()
        .fold(Config::builder().add_source(below), |builder, one| builder.add_source(one.clone()));
    builder.build().map_err(|error| Error::Config(error.to_string()))
}

fn forget_other_types(lower: &mut Value, upper: &Value) {
    match (&mut lower.kind, &upper.kind) {
        (ValueKind::Table(lower), ValueKind::Table(upper)) => forget_in_tables(lower, upper),
        (ValueKind::Array(lower), ValueKind::Array(upper)) => {
            lower.iter_mut().zip(upper).for_each(|(lower, upper)| forget_other_types(lower, upper));
        }
        _ => {}
    }
}

fn forget_in_tables(lower: &mut Map<String, Value>, upper: &Map<String, Value>) {
    if let (Some(old), Some(new)) = (lower.get("type"), upper.get("type"))
        && old.kind != new.kind
    {
        lower.clear();
        return;
    }
    for (key, value) in upper {
        if let Some(below) = lower.get_mut(key) {
            forget_other_types(below, value);
        }
    }
}
