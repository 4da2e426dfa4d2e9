//! Files of a finished or interrupted sweep.

use std::path::Path;

use isr_run::store::{read_json, write_json};

use crate::error::SweepError;
use crate::results::{Results, SCHEMA};
use crate::{page, table};

/// Reads results from a `sweep.json`, or from the folder that has one; nothing else of a sweep is needed.
///
/// # Errors
/// [`SweepError::Unusable`] where there is none, or one of another schema; [`SweepError::Core`] where it cannot be read.
pub fn read_results(path: &Path) -> Result<Results, SweepError> {
    let file = if path.is_dir() { path.join("sweep.json") } else { path.to_owned() };
    let shown = file.display();
    let Some(value) = read_json::<serde_json::Value>(&file)? else {
        let text =
            format!("there is no {shown}; name the sweep.json that `isr sweep` wrote, or its folder");
        return Err(SweepError::Unusable(text));
    };
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => serde_json::from_value(value)
            .map_err(|error| SweepError::Unusable(format!("{shown} is no sweep.json: {error}"))),
        Some(schema) => Err(SweepError::Unusable(format!(
            "the schema of {shown} is {schema}, and this version reads {SCHEMA}; use the version that wrote it"
        ))),
        None => Err(SweepError::Unusable(format!("{shown} is no sweep.json: it has no `schema`"))),
    }
}

/// Writes `sweep.json`, `metrics.parquet` and `sweep.html` into the folder `dir`, replacing older ones.
///
/// # Errors
/// [`SweepError::Parquet`], [`SweepError::Page`] or [`SweepError::Core`] for the first file that cannot be written.
pub fn write_results(results: &Results, dir: &Path) -> Result<(), SweepError> {
    table::write(results, &dir.join("metrics.parquet"))?;
    page::write(results, dir)?;
    Ok(write_json(&dir.join("sweep.json"), results)?)
}
