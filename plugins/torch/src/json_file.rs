//! JSON files of checkpoint folders.

use std::path::Path;

use serde_json::Value;

use crate::error::{Result, TorchError};

/// Reads a JSON file; [`Value::Null`] if it does not exist.
///
/// # Errors
/// A file that cannot be read or parsed, by name.
pub(crate) fn read_optional(path: &Path) -> Result<Value> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| TorchError::checkpoint(path, format!("is not JSON: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(TorchError::io("read", path)(error)),
    }
}

/// Writes JSON indented by two spaces, with a newline at the end.
///
/// # Errors
/// A file that cannot be written, by name.
pub(crate) fn write(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| TorchError::checkpoint(path, format!("cannot be written: {error}")))?;
    std::fs::write(path, text + "\n").map_err(TorchError::io("write", path))
}
