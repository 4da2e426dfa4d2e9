//! Files of a finished or interrupted sweep.

use std::path::Path;

use isr_run::store::write_json;

use crate::error::SweepError;
use crate::results::Results;
use crate::{page, table};

/// Writes `sweep.json`, `metrics.parquet` and `sweep.html` into the folder `dir`, replacing older ones.
///
/// # Errors
/// [`SweepError::Parquet`], [`SweepError::Page`] or [`SweepError::Core`] for the first file that cannot be written.
pub fn write_results(results: &Results, dir: &Path) -> Result<(), SweepError> {
    table::write(results, &dir.join("metrics.parquet"))?;
    page::write(results, dir)?;
    Ok(write_json(&dir.join("sweep.json"), results)?)
}
