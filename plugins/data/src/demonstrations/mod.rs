//! The demonstrations `files`: conversations in files of any format and layout.

mod layout;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{BuildContext, Cause, Component, ComponentError, Demonstration, Demonstrations, UnusableRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

pub use layout::{DemonstrationColumns, DemonstrationLayout};

use crate::demonstrations::layout::Conversation;
use crate::error::DataError;
use crate::layouts::FileSet;
use crate::paths::Paths;
use crate::source::blocking;

/// Demonstrations in JSONL, JSON or Parquet files: conversations of LLaVA, ms-swift or TRL, or any keys by a column map.
///
/// Each turn of the assistant is a demonstration, with the turns before it as its prompt: the loss is on all its turns. A
/// row that lacks a field, names a video that is not there, has an empty answer or a marker of media inside a text is
/// quarantined with its line and the reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DemonstrationFilesConfig {
    /// File, folder of files (shards, read in the order of their names), or list of both.
    pub path: Paths,
    /// Layout of the rows: `llava`, `ms_swift` or `trl`. Default: detected for each file by the keys of its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<DemonstrationLayout>,
    /// Column map for rows in other layouts; replaces `layout`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<DemonstrationColumns>,
    /// Base folder of relative paths of videos and images. Default: the folder of each file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_root: Option<PathBuf>,
    /// Folder in which videos and images that Parquet files contain are stored, by the digest of their bytes. Default:
    /// `isr-dpo/media` in the user's cache directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_dir: Option<PathBuf>,
}

impl Component for DemonstrationFilesConfig {
    type Built = Arc<dyn Demonstrations>;

    fn validate(&self) -> Result<(), String> {
        self.files().validate()
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn Demonstrations>, Cause> {
        Ok(Arc::new(DemonstrationFiles { config: self.clone(), read: OnceCell::new() }))
    }
}

impl DemonstrationFilesConfig {
    fn files(&self) -> FileSet<'_, DemonstrationLayout> {
        let Self { path, layout, columns, media_root, media_dir } = self;
        FileSet {
            path,
            media_root: media_root.as_ref(),
            media_dir: media_dir.as_ref(),
            layout: *layout,
            columns: columns.as_ref().map(DemonstrationColumns::named),
        }
    }
}

isr_config::register!(
    Demonstrations "files" => DemonstrationFilesConfig,
    example = "path = \"data/train.jsonl\"\nlayout = \"llava\"\nmedia_root = \"data/videos\"\n"
);

/// Demonstrations that read their files once.
struct DemonstrationFiles {
    config: DemonstrationFilesConfig,
    read: OnceCell<Arc<Conversations>>,
}

/// Rows of all files.
struct Conversations {
    rows: Vec<(String, Conversation)>,
    /// Row of each demonstration, and its answer's place among those of the row.
    places: Vec<(usize, usize)>,
    unusable: Vec<UnusableRow>,
}

impl DemonstrationFiles {
    async fn conversations(&self) -> Result<&Arc<Conversations>, ComponentError> {
        let read = async {
            let config = self.config.clone();
            blocking(move || Conversations::read(&config)).await.map(Arc::new)
        };
        self.read.get_or_try_init(|| read).await
    }
}

#[async_trait]
impl Demonstrations for DemonstrationFiles {
    async fn count(&self) -> Result<u64, ComponentError> {
        Ok(self.conversations().await?.places.len() as u64)
    }

    async fn get(&self, index: u64) -> Result<Demonstration, ComponentError> {
        let all = self.conversations().await?;
        let found = usize::try_from(index).ok().and_then(|index| all.get(index));
        found.ok_or_else(|| ComponentError::failed(format!("there is no demonstration {index}")))
    }

    async fn unusable(&self) -> Result<Vec<UnusableRow>, ComponentError> {
        Ok(self.conversations().await?.unusable.clone())
    }

    async fn corpus(&self) -> Result<Vec<String>, ComponentError> {
        let rows = &self.conversations().await?.rows;
        Ok(rows.iter().flat_map(|(_, row)| &row.turns).map(|turn| turn.text.clone()).collect())
    }
}

impl Conversations {
    fn read(config: &DemonstrationFilesConfig) -> Result<Self, DataError> {
        let columns = config.columns.clone().unwrap_or_default();
        let read = config.files().read(|layout, row, media| match layout {
            Some(layout) => layout.read(row, media),
            None => columns.read(row, media),
        });
        let (mut rows, mut unusable) = (Vec::new(), Vec::new());
        for row in read? {
            match row {
                Ok(row) => rows.push(row),
                Err(row) => unusable.push(row),
            }
        }
        let of_row = |(at, (_, row)): (usize, &(String, Conversation))| {
            (0..row.answers.len()).map(move |answer| (at, answer))
        };
        let places = rows.iter().enumerate().flat_map(of_row).collect();
        Ok(Self { rows, places, unusable })
    }

    fn get(&self, index: usize) -> Option<Demonstration> {
        let (row, nth) = *self.places.get(index)?;
        let (origin, Conversation { video, turns, answers }) = self.rows.get(row)?;
        let at = *answers.get(nth)?;
        let (answer, question) = (turns.get(at)?, turns.get(at.checked_sub(1)?)?);
        Some(Demonstration {
            id: format!("{origin}, turn {}", at + 1),
            video: video.clone(),
            turns: turns[..at - 1].to_vec(),
            prompt: question.text.clone(),
            answer: answer.text.clone(),
        })
    }
}
