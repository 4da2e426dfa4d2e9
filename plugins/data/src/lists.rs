//! Lists of samples in any format, read by a layout or a column map.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use isr_api::LabelledSample;
use isr_config::did_you_mean;

use crate::columns::Columns;
use crate::error::{DataError, Place};
use crate::layout::{KEYS, Layout};
use crate::media::{Media, MediaStore};
use crate::row::{Line, Object, Texts};
use crate::videos::Videos;

/// Callback for a row and its position; its error is the reason why the row is invalid.
pub(crate) type Taker<'a> = &'a mut dyn FnMut(Place, Object) -> Result<(), String>;

/// Reader of a format: calls the callback for each row, with at least the wanted columns. Embedded media without a path at
/// which there is a file are stored.
pub(crate) type ReadRows = fn(&Path, &Wanted, Media<'_>, Taker<'_>) -> Result<(), DataError>;

/// Columns to read.
#[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "JSON lines are read whole"))]
pub(crate) enum Wanted {
    /// Those of these that exist.
    Any(Vec<String>),
    /// All of these; each must exist.
    All(Vec<String>),
}

/// Lists of a sample source, with the settings for reading them.
#[derive(Clone, Debug)]
pub(crate) struct Lists {
    pub(crate) training: PathBuf,
    pub(crate) evaluation: Option<PathBuf>,
    pub(crate) audit: Option<PathBuf>,
    pub(crate) video_root: Option<PathBuf>,
    pub(crate) layout: Layout,
    pub(crate) columns: Option<Columns>,
    /// Folder of media that files contain; `None` for the default.
    pub(crate) media_dir: Option<PathBuf>,
    pub(crate) rows: ReadRows,
}

impl Lists {
    /// Checks settings; the message names the first invalid one.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let lists = [
            ("training", Some(&self.training)),
            ("evaluation", self.evaluation.as_ref()),
            ("audit", self.audit.as_ref()),
            ("video_root", self.video_root.as_ref()),
        ];
        for (key, path) in lists.into_iter().filter_map(|(key, path)| Some((key, path?))) {
            if !path.exists() {
                let near = did_you_mean(path);
                return Err(format!("{key} is {}, which does not exist{near}", path.display()));
            }
        }
        match &self.columns {
            Some(_) if self.layout != Layout::Auto => {
                Err("layout is set beside columns; leave out one of them".to_owned())
            }
            Some(columns) => columns.validate(),
            None => Ok(()),
        }
    }

    /// Reads and validates all lists, including that evaluation and training share no video.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        let training = self.training()?;
        self.labelled(self.audit.as_deref())?;
        let Some(evaluation) = &self.evaluation else { return Ok(()) };
        let held_out = self.labelled(Some(evaluation))?;
        let trained_on = Videos::new(training.iter().map(|line| line.sample.video.as_path()));
        match held_out.into_iter().find(|it| trained_on.has(&it.sample.video)) {
            None => Ok(()),
            Some(shared) => Err(DataError::SharedVideo {
                training: self.training.clone(),
                evaluation: evaluation.clone(),
                video: shared.sample.video,
            }),
        }
    }

    /// Reads the training list.
    pub(crate) fn training(&self) -> Result<Vec<Line>, DataError> {
        self.read(&self.training, false)
    }

    /// Reads a list whose samples must have reference answers; empty without a path.
    pub(crate) fn labelled(&self, path: Option<&Path>) -> Result<Vec<LabelledSample>, DataError> {
        let Some(path) = path else { return Ok(Vec::new()) };
        let key = self.columns.as_ref().map_or("answer", |columns| &columns.answer);
        let label = |line: Line| match line.answer {
            Some(reference) => Ok(LabelledSample { sample: line.sample, reference, facts: line.facts }),
            None => {
                let (path, key) = (path.to_owned(), key.to_owned());
                Err(DataError::NoAnswer { path, id: line.sample.id, key })
            }
        };
        self.read(path, true)?.into_iter().map(label).collect()
    }

    fn read(&self, path: &Path, labelled: bool) -> Result<Vec<Line>, DataError> {
        let beside = if path.is_dir() { Some(path) } else { path.parent() };
        let root = self.video_root.as_deref().or(beside).unwrap_or(Path::new(""));
        let mut lines: Vec<Line> = Vec::new();
        let mut seen = HashMap::new();
        let store = MediaStore::new(self.media_dir.as_deref());
        let media = Media { root, store: &store };
        (self.rows)(path, &self.wanted(labelled), media, &mut |place, row| {
            let line = self.texts(&row, lines.len() + 1, labelled, media)?.into_line(root)?;
            if let Some(first) = seen.insert(line.sample.id.clone(), place) {
                let (id, first) = (line.sample.id, first.words());
                return Err(format!("id `{id}` is also {first}; ids must be unique"));
            }
            lines.push(line);
            Ok(())
        })?;
        Ok(lines)
    }

    fn texts(
        &self,
        row: &Object,
        number: usize,
        labelled: bool,
        media: Media<'_>,
    ) -> Result<Texts, String> {
        match &self.columns {
            Some(columns) => columns.read(row, number, labelled, media),
            None => self.layout.read(row, media),
        }
    }

    fn wanted(&self, labelled: bool) -> Wanted {
        let Some(columns) = &self.columns else {
            return Wanted::Any(KEYS.map(str::to_owned).to_vec());
        };
        let named = columns.named().into_iter().filter(|(part, _)| labelled || *part != "answer");
        Wanted::All(named.map(|(_, column)| column.to_owned()).collect())
    }
}

/// Constructor of errors about a row.
pub(crate) fn fail(path: &Path, place: Place) -> impl Fn(String) -> DataError {
    let path = path.to_owned();
    move |reason| DataError::Row { path: path.clone(), place, reason }
}
