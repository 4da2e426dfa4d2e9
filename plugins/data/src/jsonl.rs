//! The sample source `jsonl`.

use std::fs::File;
use std::io::{BufRead, BufReader};
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
use crate::row::Object;
use crate::source::ListSource;

/// JSONL lists of videos and instructions, in LLaVA-Hound's layouts or with any keys by a column map.
///
/// One object per line: `id` and `video` with `conversations` (`train`), `prompt` (`dpo`) or `question`
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

/// Reads the objects of a JSONL file; skips blank lines.
pub(crate) fn read_rows(path: &Path, _: &Wanted, take: Taker<'_>) -> Result<(), DataError> {
    let file = BufReader::new(File::open(path).map_err(DataError::io(path))?);
    for (index, line) in file.lines().enumerate() {
        let place = Place::Line(index + 1);
        let fail = fail(path, place);
        let text = line.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidData => fail("it is not UTF-8 text".to_owned()),
            _ => DataError::Io { path: path.to_owned(), source: error },
        })?;
        if !text.trim().is_empty() {
            object(&text).and_then(|row| take(place, row)).map_err(fail)?;
        }
    }
    Ok(())
}

fn object(text: &str) -> Result<Object, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("expected a JSON object with `id`, `video` and `prompt`".to_owned()),
        Err(_) if text.trim() == "[" => {
            Err("this is a JSON array over many lines; write one object a line (`jq -c '.[]'`)".to_owned())
        }
        Err(error) => Err(format!("no valid JSON: {error}")),
    }
}
