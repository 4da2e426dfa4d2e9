//! The sample source `jsonl`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{BuildContext, Cause, Component, SampleSource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::columns::Columns;
use crate::error::{DataError, Place};
use crate::layout::Layout;
use crate::lists::{Lists, Taker, Wanted, fail};
use crate::media::Media;
use crate::rows::{RowError, Rows};
use crate::source::ListSource;

/// JSONL lists of videos and instructions, in LLaVA-Hound's layouts or with any keys by a column map.
///
/// One object per line, or a JSON array of objects: `id` and `video` with `conversations` (`train`), `prompt` (`dpo`) or `question`
/// (`qa`), and for evaluation `answer`; or the keys of `columns`. Training never reads answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlConfig {
    /// Training list.
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
    /// LLaVA-Hound layout: `train`, `dpo`, `qa`, or by default `auto`, which detects it for each line by its
    /// keys.
    #[serde(default)]
    pub layout: Layout,
    /// Column map for lists in other layouts; replaces `layout`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Columns>,
}

impl JsonlConfig {
    fn lists(&self) -> Lists {
        Lists {
            training: self.training.clone(),
            evaluation: self.evaluation.clone(),
            audit: self.audit.clone(),
            video_root: self.video_root.clone(),
            layout: self.layout,
            columns: self.columns.clone(),
            media_dir: None,
            rows: read_rows,
        }
    }
}

impl Component for JsonlConfig {
    type Built = Arc<dyn SampleSource>;

    fn validate(&self) -> Result<(), String> {
        self.lists().validate()
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn SampleSource>, Cause> {
        Ok(Arc::new(ListSource(self.lists())))
    }
}

isr_config::register!(
    Data "jsonl" => JsonlConfig,
    example = "training = \"data/train.jsonl\"\nevaluation = \"data/evaluation.jsonl\"\nvideo_root = \"data\"\n"
);

/// Reads the objects of a list.
pub(crate) fn read_rows(path: &Path, _: &Wanted, _: Media<'_>, take: Taker<'_>) -> Result<(), DataError> {
    let rows = Rows::open(File::open(path).map_err(DataError::io(path))?);
    for row in rows.map_err(|error| failed(path, None, error))? {
        let (line, value) = row;
        let place = Place::Line(line);
        let value = value.map_err(|error| failed(path, Some(place), error))?;
        let row = match value {
            Value::Object(object) => take(place, object),
            _ => Err("expected a JSON object with `id`, `video` and `prompt`".to_owned()),
        };
        row.map_err(fail(path, place))?;
    }
    Ok(())
}

pub(crate) fn failed(path: &Path, place: Option<Place>, error: RowError) -> DataError {
    match (error, place) {
        (RowError::Read(source), _) => DataError::Io { path: path.to_owned(), source },
        (RowError::Invalid(reason), Some(place)) => fail(path, place)(reason),
        (RowError::Invalid(reason), None) => DataError::Table { path: path.to_owned(), reason },
    }
}
