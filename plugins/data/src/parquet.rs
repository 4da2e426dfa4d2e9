//! The sample source `parquet`.

use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{BuildContext, Cause, Component, SampleSource};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::columns::Columns;
use crate::error::{DataError, Place};
use crate::layout::Layout;
use crate::lists::{Lists, Taker, Wanted, fail};
use crate::media::Media;
use crate::names::hint;
use crate::row::Object;
use crate::source::ListSource;

/// Parquet lists of videos and instructions, such as those of Hugging Face `datasets`, in LLaVA-Hound's layouts
/// or with any columns by a column map.
///
/// A list is a file, or a folder of `.parquet` files, read in the order of their names. Only required columns
/// are read. Videos are files, or bytes in the table without a path at which there is a file, which are stored as files in
/// `media_dir`; a list of pictures is a video of these frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    /// Training list: a `.parquet` file, or a folder of them.
    pub training: PathBuf,
    /// Held-out list with reference answers; must not share a video with `training`. Default: none.
    #[serde(default)]
    pub evaluation: Option<PathBuf>,
    /// List of training samples with reference answers, for measuring judges and contexts; training never
    /// reads it. Default: none.
    #[serde(default)]
    pub audit: Option<PathBuf>,
    /// Base folder of relative `video` paths. Default: the folder of each list.
    #[serde(default)]
    pub video_root: Option<PathBuf>,
    /// LLaVA-Hound layout: `train`, `dpo`, `qa`, or by default `auto`, which detects it for each row by its
    /// columns.
    #[serde(default)]
    pub layout: Layout,
    /// Column map for lists in other layouts; replaces `layout`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
    /// Folder in which videos that tables contain are stored, by the digest of their bytes. Default: `isr-dpo/media` in the
    /// user's cache directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_dir: Option<PathBuf>,
}

impl ParquetConfig {
    fn lists(&self) -> Lists {
        Lists {
            training: self.training.clone(),
            evaluation: self.evaluation.clone(),
            audit: self.audit.clone(),
            video_root: self.video_root.clone(),
            layout: self.layout,
            columns: self.columns.clone(),
            media_dir: self.media_dir.clone(),
            rows: read_rows,
        }
    }
}

impl Component for ParquetConfig {
    type Built = Arc<dyn SampleSource>;

    fn validate(&self) -> Result<(), String> {
        self.lists().validate()
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn SampleSource>, Cause> {
        Ok(Arc::new(ListSource(self.lists())))
    }
}

isr_config::register!(
    Data "parquet" => ParquetConfig,
    example = "training = \"data/train.parquet\"\nvideo_root = \"data\"\n\
               columns = { id = \"id\", video = \"video\", instruction = \"question\", answer = \"answer\" }\n"
);

/// Reads the rows of a Parquet file, or of all Parquet files of a folder. Bytes without a path at which there is a file are
/// stored.
fn read_rows(path: &Path, wanted: &Wanted, media: Media<'_>, take: Taker<'_>) -> Result<(), DataError> {
    let store = media.store;
    let binary = |bytes: &[u8], path: Option<&str>| match path {
        Some(path) if media.root.join(path).exists() => json!({ "bytes": bytes.len() }),
        _ => store.value(bytes),
    };
    let mut read = |file: &Path| {
        let outcome = read_guarded(file, wanted, &binary, take);
        store.error().map_or(outcome, Err)
    };
    if !path.is_dir() {
        return read(path);
    }
    let entries = fs::read_dir(path).map_err(DataError::io(path))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|it| it.eq_ignore_ascii_case("parquet")));
    files.sort();
    if files.is_empty() {
        return Err(DataError::Nothing { path: path.to_owned(), wanted: "`.parquet` file".to_owned() });
    }
    files.iter().try_for_each(|file| read(file))
}

/// JSON form of bytes that are not UTF-8, in an object with or without a path beside them.
pub(crate) type Binary<'a> = &'a dyn Fn(&[u8], Option<&str>) -> Value;

/// Like [`read_file`], but turns panics of the Parquet reader, which some corrupt files cause, into errors.
pub(crate) fn read_guarded(
    path: &Path,
    wanted: &Wanted,
    binary: Binary<'_>,
    take: Taker<'_>,
) -> Result<(), DataError> {
    let outcome = catch_unwind(AssertUnwindSafe(|| read_file(path, wanted, binary, take)));
    outcome.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        let source = ParquetError::General(format!("it is damaged: {text}"));
        Err(DataError::Parquet { path: path.to_owned(), source })
    })
}

fn read_file(path: &Path, wanted: &Wanted, binary: Binary<'_>, take: Taker<'_>) -> Result<(), DataError> {
    let damaged = |source: ParquetError| DataError::Parquet { path: path.to_owned(), source };
    let file = File::open(path).map_err(DataError::io(path))?;
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    let schema = reader.metadata().file_metadata().schema();
    let projection = projection(schema, wanted)
        .map_err(|reason| DataError::Table { path: path.to_owned(), reason })?
        .build()
        .map_err(damaged)?;
    for (index, row) in reader.get_row_iter(Some(projection)).map_err(damaged)?.enumerate() {
        let place = Place::Row(index + 1);
        take(place, object(row.map_err(damaged)?, binary)).map_err(fail(path, place))?;
    }
    Ok(())
}

/// Projection of the schema to the wanted columns.
fn projection<'s>(
    schema: &'s Type,
    wanted: &Wanted,
) -> Result<parquet::schema::types::GroupTypeBuilder<'s>, String> {
    let there: Vec<&str> = schema.get_fields().iter().map(|field| field.name()).collect();
    let has = |column: &str| there.contains(&column);
    let roots: Vec<&str> = match wanted {
        Wanted::Any(columns) => columns.iter().map(String::as_str).filter(|it| has(it)).collect(),
        Wanted::All(columns) => {
            let root = |column: &'_ String| match column.split_once('.') {
                Some((root, _)) if !has(column) => root.to_owned(),
                _ => column.clone(),
            };
            let roots: Vec<String> = columns.iter().map(root).collect();
            if let Some(missing) = roots.iter().find(|root| !has(root)) {
                return Err(format!("there is no column `{missing}`{}", hint(missing, &there)));
            }
            there.iter().copied().filter(|name| roots.iter().any(|root| root == name)).collect()
        }
    };
    if roots.is_empty() {
        return Err(format!(
            "no column is one of a known layout{}; name them by columns",
            hint("", &there)
        ));
    }
    let fields = schema.get_fields().iter().filter(|field| roots.contains(&field.name()));
    Ok(Type::group_type_builder(schema.name()).with_fields(fields.cloned().collect()))
}

fn object(row: Row, binary: Binary<'_>) -> Object {
    row.into_columns().into_iter().map(|(name, field)| (name, value(&field, None, binary))).collect()
}

/// A field as JSON, and the path beside it.
fn value(field: &Field, beside: Option<&str>, binary: Binary<'_>) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(truth) => json!(truth),
        Field::Byte(number) => json!(number),
        Field::Short(number) => json!(number),
        Field::Int(number) => json!(number),
        Field::Long(number) => json!(number),
        Field::UByte(number) => json!(number),
        Field::UShort(number) => json!(number),
        Field::UInt(number) => json!(number),
        Field::ULong(number) => json!(number),
        Field::Float(number) => json!(number),
        Field::Double(number) => json!(number),
        Field::Str(text) => json!(text),
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => json!(text),
            Err(_) => binary(bytes.data(), beside),
        },
        Field::Group(row) => {
            let path = row.get_column_iter().find_map(|(name, field)| match field {
                Field::Str(path) if name == "path" && !path.is_empty() => Some(path.as_str()),
                _ => None,
            });
            let pairs =
                row.get_column_iter().map(|(name, field)| (name.clone(), value(field, path, binary)));
            Value::Object(pairs.collect())
        }
        Field::ListInternal(list) => list.elements().iter().map(|it| value(it, None, binary)).collect(),
        Field::MapInternal(map) => {
            let key = |field: &Field| match value(field, None, binary) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            let pairs = map.entries().iter().map(|(name, field)| (key(name), value(field, None, binary)));
            Value::Object(pairs.collect())
        }
        // Dates, times and decimals, as the reader formats them.
        other => json!(other.to_string()),
    }
}
