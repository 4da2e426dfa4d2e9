//! Sections of `config.json`.

use std::ops::RangeInclusive;

use serde_json::Value;

/// Range of a width: of the residual stream, a head, an MLP.
pub(crate) const WIDTH: RangeInclusive<i64> = 1..=1 << 20;
/// Range of a number of layers.
pub(crate) const LAYERS: RangeInclusive<i64> = 1..=4096;
/// Range of a number of heads.
pub(crate) const HEADS: RangeInclusive<i64> = 1..=1 << 14;
/// Range of the side of a picture in pixels.
pub(crate) const PIXELS: RangeInclusive<i64> = 1..=1 << 14;

/// Merges a config section into the defaults of transformers; null entries count as absent.
pub(crate) fn with_defaults(section: &Value, defaults: Value) -> Value {
    let mut merged = defaults;
    if let (Value::Object(into), Value::Object(given)) = (&mut merged, section) {
        into.extend(
            given.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())),
        );
    }
    merged
}

/// Checks that a section is an object.
///
/// # Errors
/// Another value, by the section's name.
pub(crate) fn check_object(section: &str, value: &Value) -> Result<(), String> {
    match value.is_object() {
        true => Ok(()),
        false => Err(format!("`{section}` is no object")),
    }
}

/// Checks sizes of a section, given with their ranges, so that shapes computed from them neither overflow nor exceed all
/// memory.
///
/// # Errors
/// The first size out of range, by its key.
pub(crate) fn check_sizes(section: &str, sizes: &[(&str, i64, RangeInclusive<i64>)]) -> Result<(), String> {
    match sizes.iter().find(|(_, size, range)| !range.contains(size)) {
        Some((key, size, range)) => {
            let (least, most) = (range.start(), range.end());
            Err(format!("{section}.{key} is {size}; it must be from {least} to {most}"))
        }
        None => Ok(()),
    }
}

/// Checks a vision transformer's sizes (hidden size, intermediate size, layers, heads, sides of picture and patch in
/// pixels) and the epsilon of its norms.
///
/// # Errors
/// The first size out of range, by its key, or a width that is no multiple of the heads.
pub(crate) fn check_tower(section: &str, sizes: [i64; 6], eps: f64) -> Result<(), String> {
    let [hidden, intermediate, layers, heads, image, patch] = sizes;
    check_sizes(
        section,
        &[
            ("hidden_size", hidden, WIDTH),
            ("intermediate_size", intermediate, WIDTH),
            ("num_hidden_layers", layers, LAYERS),
            ("num_attention_heads", heads, HEADS),
            ("image_size", image, PIXELS),
            ("patch_size", patch, 1..=image),
        ],
    )?;
    check_positive(section, "layer_norm_eps", eps)?;
    match hidden % heads {
        0 => Ok(()),
        _ => Err(format!("{section}.hidden_size is {hidden}, no multiple of {heads} heads")),
    }
}

/// Checks that a number of a section is finite and above 0.
///
/// # Errors
/// The number, by its key.
pub(crate) fn check_positive(section: &str, key: &str, value: f64) -> Result<(), String> {
    match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => Err(format!("{section}.{key} is {value}; it must be above 0")),
    }
}
