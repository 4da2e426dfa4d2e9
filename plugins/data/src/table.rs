//! Rows of a file of any format, with a reason in the place of each that is no object.

use std::fs::File;
use std::path::Path;

use isr_api::UnusableRow;
use serde_json::Value;

use crate::error::{DataError, Place};
use crate::jsonl;
use crate::lists::Wanted;
use crate::media::MediaStore;
use crate::paths::has_ending;
use crate::row::Object;
use crate::rows::Rows;

/// A row with its origin; a line that is no JSON object has the reason.
pub(crate) struct TableRow {
    /// File and position: `pairs.jsonl:12`.
    pub(crate) origin: String,
    pub(crate) content: Result<Object, String>,
}

impl TableRow {
    /// Reads the row; returns its origin and what was read, or why it cannot be used.
    pub(crate) fn read<T>(
        self,
        read: impl FnOnce(&Object) -> Result<T, String>,
    ) -> Result<(String, T), UnusableRow> {
        let Self { origin, content } = self;
        match content.and_then(|row| read(&row)) {
            Ok(it) => Ok((origin, it)),
            Err(reason) => Err(UnusableRow { origin, reason }),
        }
    }
}

/// Reads all rows of a Parquet, JSONL or JSON file. Media that a Parquet file contains are stored as files.
///
/// # Errors
/// [`DataError`] for a file that cannot be read, and for a JSON array that breaks off, since what follows is lost.
pub(crate) fn read(path: &Path, wanted: &Wanted, media: &MediaStore) -> Result<Vec<TableRow>, DataError> {
    if has_ending(path, "parquet") {
        return parquet_rows(path, wanted, media);
    }
    if has_ending(path, "arrow") {
        let reason = "Arrow files are not read; write the dataset by `to_parquet` or `to_json`".to_owned();
        return Err(DataError::Table { path: path.to_owned(), reason });
    }
    let file = File::open(path).map_err(DataError::io(path))?;
    let rows = Rows::open(file).map_err(|error| jsonl::failed(path, None, error))?;
    let is_array = rows.is_array();
    let mut all = Vec::new();
    for (line, value) in rows {
        let place = Place::Line(line);
        let content = match value {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err("it is no JSON object".to_owned()),
            Err(crate::RowError::Invalid(reason)) if !is_array => Err(reason),
            Err(error) => return Err(jsonl::failed(path, Some(place), error)),
        };
        all.push(TableRow { origin: origin(path, place), content });
    }
    Ok(all)
}

fn origin(path: &Path, place: Place) -> String {
    format!("{}{place}", isr_api::video_key(path))
}

#[cfg(feature = "parquet")]
fn parquet_rows(path: &Path, wanted: &Wanted, media: &MediaStore) -> Result<Vec<TableRow>, DataError> {
    let mut all = Vec::new();
    let mut failed = None;
    // The path beside bytes is the name that the file once had.
    let store = |bytes: &[u8], _: Option<&str>| media.value(bytes);
    crate::parquet::read_guarded(path, wanted, &store, &mut |place, row| {
        if let Some(error) = media.error() {
            failed = Some(error);
            return Err("its media cannot be stored".to_owned());
        }
        all.push(TableRow { origin: origin(path, place), content: Ok(row) });
        Ok(())
    })
    .map_err(|error| failed.unwrap_or(error))?;
    // The last row's.
    media.error().map_or(Ok(all), Err)
}

#[cfg(not(feature = "parquet"))]
fn parquet_rows(path: &Path, _: &Wanted, _: &MediaStore) -> Result<Vec<TableRow>, DataError> {
    let reason = "this program was built without the feature `parquet`".to_owned();
    Err(DataError::Table { path: path.to_owned(), reason })
}
