//! The sample source `folder`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, Cause, Component, ComponentError, LabelledSample, Sample, SampleId, SampleSource,
    video_key,
};
use isr_config::did_you_mean;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::jsonl;
use crate::layout::Layout;
use crate::lists::Lists;
use crate::question::Question;
use crate::source::blocking;
use crate::videos::Videos;

/// Extensions of video files, in any case.
const EXTENSIONS: [&str; 13] =
    ["mp4", "m4v", "mkv", "webm", "avi", "mov", "mpg", "mpeg", "wmv", "flv", "ts", "3gp", "gif"];

/// Folder of videos, with one instruction for each.
///
/// Each video file in the folder and its subfolders is a sample, ordered by path; its id is the path relative
/// to the folder. Hidden files and folders, and symbolic links to folders, are skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderConfig {
    /// Path of the folder.
    pub path: PathBuf,
    /// Instruction for each video: a Jinja template over `{{ name }}` (the file's name without extension),
    /// `{{ folder }}` (the subfolder) and `{{ path }}`. Default "Describe the video in detail.".
    #[serde(default = "default_question")]
    pub question: String,
    /// Held-out JSONL list with reference answers, as of `jsonl`; must not share a video with the folder.
    /// Default: none.
    #[serde(default)]
    pub evaluation: Option<PathBuf>,
}

fn default_question() -> String {
    "Describe the video in detail.".to_owned()
}

impl Component for FolderConfig {
    type Built = Arc<dyn SampleSource>;

    fn validate(&self) -> Result<(), String> {
        let paths = [("path", Some(&self.path)), ("evaluation", self.evaluation.as_ref())];
        for (key, path) in paths.into_iter().filter_map(|(key, path)| Some((key, path?))) {
            if !path.exists() {
                let near = did_you_mean(path);
                return Err(format!("{key} is {}, which does not exist{near}", path.display()));
            }
        }
        if !self.path.is_dir() {
            return Err(format!("path is {}, which is no folder", self.path.display()));
        }
        Question::new(&self.question).map(|_| ())
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn SampleSource>, Cause> {
        let question = Question::new(&self.question)?;
        Ok(Arc::new(FolderSource { config: self.clone(), question }))
    }
}

isr_config::register!(
    Data "folder" => FolderConfig,
    example = "path = \"data/videos\"\nquestion = \"What happens in the video?\"\n"
);

/// Sample source with one sample per video file.
#[derive(Clone, Debug)]
struct FolderSource {
    config: FolderConfig,
    question: Question,
}

impl FolderSource {
    fn samples(&self) -> Result<Vec<Sample>, DataError> {
        let root = &self.config.path;
        let mut files = Vec::new();
        collect(root, &mut files)?;
        if files.is_empty() {
            let wanted = format!("video file ({})", EXTENSIONS.join(", "));
            return Err(DataError::Nothing { path: root.clone(), wanted });
        }
        let sample = |video: PathBuf| {
            let relative = video.strip_prefix(root).unwrap_or(&video);
            let instruction = self.question.ask(relative).map_err(DataError::Config)?;
            Ok(Sample { id: SampleId(video_key(relative)), instruction, video })
        };
        let mut samples = files.into_iter().map(sample).collect::<Result<Vec<_>, DataError>>()?;
        samples.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(samples)
    }

    /// Reads the held-out list, like `jsonl`.
    fn held_out(&self) -> Result<Vec<LabelledSample>, DataError> {
        let Some(list) = &self.config.evaluation else { return Ok(Vec::new()) };
        let lists = Lists {
            training: list.clone(),
            evaluation: Some(list.clone()),
            audit: None,
            video_root: None,
            layout: Layout::Auto,
            columns: None,
            media_dir: None,
            rows: jsonl::read_rows,
        };
        lists.labelled(Some(list))
    }

    fn check(&self) -> Result<(), DataError> {
        let samples = self.samples()?;
        let held_out = self.held_out()?;
        let videos = Videos::new(samples.iter().map(|sample| sample.video.as_path()));
        match held_out.into_iter().find(|it| videos.has(&it.sample.video)) {
            None => Ok(()),
            Some(shared) => Err(DataError::SharedVideo {
                training: self.config.path.clone(),
                evaluation: self.config.evaluation.clone().unwrap_or_default(),
                video: shared.sample.video,
            }),
        }
    }
}

/// Collects the non-hidden video files below a folder. Skips links to folders, which may form cycles.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(DataError::io(&path))?.is_dir() {
            collect(&path, files)?;
        } else if is_video(&path) && path.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn is_video(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

#[async_trait]
impl SampleSource for FolderSource {
    async fn prepare(&self) -> Result<(), ComponentError> {
        let source = self.clone();
        blocking(move || source.check()).await
    }

    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        let source = self.clone();
        blocking(move || source.samples()).await
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        let source = self.clone();
        blocking(move || source.held_out()).await
    }
}
