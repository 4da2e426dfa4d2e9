//! The preferences `files`: preference pairs in files of any format and layout.

mod columns;
mod layout;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{BuildContext, Cause, Component, ComponentError, Preference, Preferences, UnusableRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use columns::PreferenceColumns;
pub use layout::PreferenceLayout;

use crate::error::DataError;
use crate::layouts::FileSet;
use crate::paths::Paths;
use crate::preferences::layout::Pair;
use crate::source::blocking;

/// Preference pairs in JSONL, JSON or Parquet files, in the layouts of LLaVA-Hound, TRL, ms-swift, LLaMA-Factory, VistaDPO,
/// RRPO and RLAIF-V, or with any keys by a column map.
///
/// Reads what `isr export` writes. A row that lacks a field, names a video that is not there, has equal or empty
/// answers, or a marker of media inside a text is quarantined with its line and the reason. A marker before or behind the
/// first question is removed: the policy's chat template places the video or image before that question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreferenceFilesConfig {
    /// File, folder of files (shards, read in the order of their names), or list of both.
    pub path: Paths,
    /// Layout of the rows: `llava_hound`, `trl`, `ms_swift`, `llama_factory`, `vistadpo`, `rrpo` or `rlaif_v`. Default: detected
    /// for each file by the keys of its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<PreferenceLayout>,
    /// Column map for rows in other layouts; replaces `layout`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<PreferenceColumns>,
    /// Base folder of relative paths of videos and images. Default: the folder of each file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_root: Option<PathBuf>,
    /// Folder in which videos and images that Parquet files contain are stored, by the digest of their bytes. Default:
    /// `isr-dpo/media` in the user's cache directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_dir: Option<PathBuf>,
}

impl Component for PreferenceFilesConfig {
    type Built = Arc<dyn Preferences>;

    fn validate(&self) -> Result<(), String> {
        self.files().validate()
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn Preferences>, Cause> {
        Ok(Arc::new(PreferenceFiles(self.clone())))
    }
}

isr_config::register!(
    Preferences "files" => PreferenceFilesConfig,
    example = "path = \"data/sft_dpo_17k.jsonl\"\nlayout = \"llava_hound\"\nmedia_root = \"data/frames\"\n"
);

/// Preferences that read their files on each call.
#[derive(Clone)]
struct PreferenceFiles(PreferenceFilesConfig);

#[async_trait]
impl Preferences for PreferenceFiles {
    async fn rows(&self) -> Result<Vec<Result<Preference, UnusableRow>>, ComponentError> {
        let files = self.clone();
        blocking(move || files.0.read()).await
    }
}

impl PreferenceFilesConfig {
    fn files(&self) -> FileSet<'_, PreferenceLayout> {
        let Self { path, layout, columns, media_root, media_dir } = self;
        FileSet {
            path,
            media_root: media_root.as_ref(),
            media_dir: media_dir.as_ref(),
            layout: *layout,
            columns: columns.as_ref().map(PreferenceColumns::named),
        }
    }

    fn read(&self) -> Result<Vec<Result<Preference, UnusableRow>>, DataError> {
        let columns = self.columns.clone().unwrap_or_default();
        let rows = self.files().read(|layout, row, media| match layout {
            Some(layout) => layout.read(row, media),
            None => columns.read(row, media),
        });
        Ok(rows?.into_iter().map(|row| row.map(|(origin, pair)| preference(origin, pair))).collect())
    }
}

fn preference(origin: String, pair: Pair) -> Preference {
    let Pair { id, video, turns, prompt, chosen, rejected, p_chosen } = pair;
    Preference {
        id: id.unwrap_or_else(|| origin.clone()),
        origin,
        video,
        turns,
        prompt,
        chosen,
        rejected,
        p_chosen,
    }
}
