//! The preferences `files`: preference pairs in files of any format and layout.

mod columns;
mod layout;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{BuildContext, Cause, Component, ComponentError, Preference, Preferences, UnusableRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use columns::PreferenceColumns;
pub use layout::PreferenceLayout;

use crate::error::DataError;
use crate::layouts;
use crate::lists::Wanted;
use crate::media::MediaStore;
use crate::paths::Paths;
use crate::preferences::layout::{KEYS, Pair};
use crate::row::Object;
use crate::source::blocking;
use crate::table;

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
        self.path.validate("path")?;
        if let Some(root) = self.media_root.as_ref().filter(|root| !root.is_dir()) {
            return Err(format!("media_root is {}, which is no folder", root.display()));
        }
        match &self.columns {
            Some(_) if self.layout.is_some() => {
                Err("layout is set beside columns; leave out one of them".to_owned())
            }
            Some(columns) => columns.validate(),
            None => Ok(()),
        }
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
        blocking(move || files.read()).await
    }
}

impl PreferenceFiles {
    fn read(&self) -> Result<Vec<Result<Preference, UnusableRow>>, DataError> {
        let store = MediaStore::new(self.0.media_dir.as_deref());
        let mut all = Vec::new();
        for file in self.0.path.files()? {
            all.extend(self.read_file(&file, &store)?);
        }
        Ok(all)
    }

    fn read_file(
        &self,
        file: &Path,
        store: &MediaStore,
    ) -> Result<Vec<Result<Preference, UnusableRow>>, DataError> {
        let PreferenceFilesConfig { columns, layout, media_root, .. } = &self.0;
        let wanted = match columns {
            Some(columns) => Wanted::All(columns.named()),
            None => Wanted::Any(KEYS.map(str::to_owned).to_vec()),
        };
        let root = media_root.as_deref().or(file.parent()).unwrap_or(Path::new(""));
        let rows = table::read(file, &wanted, store)?;
        let read: Box<dyn Fn(&Object) -> Result<Pair, String>> = match columns {
            Some(columns) => Box::new(|row| columns.read(row, root)),
            None => {
                let layout = layouts::of_rows(&rows, *layout)
                    .map_err(|reason| DataError::Table { path: file.to_owned(), reason })?;
                Box::new(move |row| layout.read(row, root))
            }
        };
        Ok(rows
            .into_iter()
            .map(|row| row.read(&read).map(|(origin, pair)| preference(origin, pair)))
            .collect())
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
