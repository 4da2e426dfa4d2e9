//! Datasets of plugins: rows that break the contract are refused or quarantined, and relative paths are found.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use isr_api::{
    ComponentError, Demonstration, Demonstrations, LabelledSample, Preference, Preferences, Sample,
    SampleSource, UnusableRow,
};

use super::{PluginError, Source};
use crate::plugin::find::from_here;

/// A dataset of a plugin.
struct Dataset<T: ?Sized> {
    name: String,
    /// Folder of the plugin's file, relative to the working directory where it is below that.
    folder: PathBuf,
    inner: Arc<T>,
}

impl<T: ?Sized> Dataset<T> {
    fn new(Source { name, file }: Source<'_>, inner: Arc<T>) -> Self {
        let folder = PathBuf::from(from_here(file.parent().unwrap_or(Path::new(""))));
        Self { name: name.to_owned(), folder, inner }
    }

    /// A path beside the plugin's file, if there is such a file or folder; else as it is.
    fn found(&self, path: &mut PathBuf) {
        let beside = self.folder.join(&*path);
        if path.is_relative() && beside.exists() {
            *path = beside;
        }
    }

    /// As [`found`](Self::found).
    ///
    /// # Errors
    /// There is no such file or folder.
    fn existing(&self, path: &mut Option<PathBuf>) -> Result<(), String> {
        let Some(path) = path else { return Ok(()) };
        let named = path.clone();
        self.found(path);
        if path.exists() {
            return Ok(());
        }
        let folder = self.folder.display();
        Err(format!(
            "there is no {}, neither below {folder}/ nor in the working directory",
            named.display()
        ))
    }

    fn wrong(&self, call: &'static str, message: String) -> ComponentError {
        PluginError::new(&self.name, call, message).failed()
    }
}

/// Samples of a plugin. Like those of a list, all are in order before any work.
struct CheckedData {
    rows: Dataset<dyn SampleSource>,
    /// Videos of the training split, once it has been read.
    trained_on: Mutex<HashSet<PathBuf>>,
}

pub(in crate::plugin) fn data(from: Source<'_>, inner: Arc<dyn SampleSource>) -> Arc<dyn SampleSource> {
    Arc::new(CheckedData { rows: Dataset::new(from, inner), trained_on: Mutex::default() })
}

impl CheckedData {
    /// Checks a split, and finds its videos.
    fn check<'s>(
        &self,
        split: &'static str,
        samples: impl Iterator<Item = &'s mut Sample>,
    ) -> Result<(), ComponentError> {
        let mut seen = HashSet::new();
        for (index, sample) in samples.enumerate() {
            let wrong = |what: String| Err(self.rows.wrong(split, format!("sample {}: {what}", index + 1)));
            for (key, text) in [("id", sample.id.as_str()), ("instruction", &sample.instruction)] {
                if text.trim().is_empty() {
                    return wrong(format!("`{key}` is empty"));
                }
            }
            if sample.video.as_os_str().is_empty() {
                return wrong("`video` is empty; it is a path".to_owned());
            }
            if !seen.insert(sample.id.clone()) {
                return wrong(format!("another has the id `{}`, too; give each its own", sample.id));
            }
            self.rows.found(&mut sample.video);
        }
        Ok(())
    }
}

#[async_trait]
impl SampleSource for CheckedData {
    async fn prepare(&self) -> Result<(), ComponentError> {
        self.rows.inner.prepare().await
    }

    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        let mut samples = self.rows.inner.training().await?;
        self.check("training", samples.iter_mut())?;
        let videos = samples.iter().map(|sample| sample.video.clone()).collect();
        *self.trained_on.lock().unwrap_or_else(PoisonError::into_inner) = videos;
        Ok(samples)
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        let mut samples = self.rows.inner.evaluation().await?;
        self.check("evaluation", samples.iter_mut().map(|labelled| &mut labelled.sample))?;
        let trained_on = self.trained_on.lock().unwrap_or_else(PoisonError::into_inner);
        match samples.iter().find(|labelled| trained_on.contains(&labelled.sample.video)) {
            Some(LabelledSample { sample: Sample { id, video, .. }, .. }) => {
                let text = format!(
                    "sample `{id}` is about {}, which is trained on; take other videos",
                    video.display()
                );
                Err(self.rows.wrong("evaluation", text))
            }
            None => Ok(samples),
        }
    }

    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        let mut samples = self.rows.inner.audit().await?;
        self.check("audit", samples.iter_mut().map(|labelled| &mut labelled.sample))?;
        Ok(samples)
    }
}

pub(in crate::plugin) fn preferences(
    from: Source<'_>,
    inner: Arc<dyn Preferences>,
) -> Arc<dyn Preferences> {
    Arc::new(Dataset::new(from, inner))
}

impl Dataset<dyn Preferences> {
    /// Finds the video of a pair.
    fn check(&self, pair: &mut Preference, seen: &mut HashSet<String>) -> Result<(), String> {
        let Preference { id, prompt, chosen, rejected, p_chosen, .. } = pair;
        not_empty([("id", id), ("prompt", prompt), ("chosen", chosen), ("rejected", rejected)])?;
        if chosen == rejected {
            return Err("`chosen` and `rejected` are the same text".to_owned());
        }
        if let Some(p) = p_chosen.filter(|p| !(0.0..=1.0).contains(p)) {
            return Err(format!("`p_chosen` is {p}, not in [0, 1]"));
        }
        if !seen.insert(id.clone()) {
            return Err(format!("another row has the id `{id}`, too; give each its own"));
        }
        self.existing(&mut pair.video)
    }
}

#[async_trait]
impl Preferences for Dataset<dyn Preferences> {
    async fn rows(&self) -> Result<Vec<Result<Preference, UnusableRow>>, ComponentError> {
        let (mut ids, mut origins) = (HashSet::new(), HashSet::new());
        let mut rows = self.inner.rows().await?;
        for row in &mut rows {
            let origin = match row {
                Ok(pair) => &mut pair.origin,
                Err(unusable) => &mut unusable.origin,
            };
            if !origins.insert(origin.clone()) {
                let text =
                    format!("two rows have the origin `{origin}`; leave it out, or name each its own");
                return Err(self.wrong("rows", text));
            }
            if let Ok(pair) = row
                && let Err(reason) = self.check(pair, &mut ids)
            {
                *row = Err(UnusableRow { origin: pair.origin.clone(), reason });
            }
        }
        Ok(rows)
    }
}

/// Demonstrations of a plugin, read once.
struct CheckedDemonstrations {
    rows: Dataset<dyn Demonstrations>,
    read: Mutex<Option<Arc<Read>>>,
}

/// Demonstrations that can be used, and rows that cannot.
struct Read {
    sound: Vec<Demonstration>,
    unusable: Vec<UnusableRow>,
}

pub(in crate::plugin) fn demonstrations(
    from: Source<'_>,
    inner: Arc<dyn Demonstrations>,
) -> Arc<dyn Demonstrations> {
    Arc::new(CheckedDemonstrations { rows: Dataset::new(from, inner), read: Mutex::default() })
}

impl CheckedDemonstrations {
    async fn read(&self) -> Result<Arc<Read>, ComponentError> {
        if let Some(read) = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(read);
        }
        let inner = &self.rows.inner;
        let (mut sound, mut unusable) = (Vec::new(), inner.unusable().await?);
        let mut seen = HashSet::new();
        for index in 0..inner.count().await? {
            let mut row = inner.get(index).await?;
            match self.check(&mut row, &mut seen) {
                Ok(()) => sound.push(row),
                Err(reason) => unusable.push(UnusableRow { origin: row.id, reason }),
            }
        }
        let read = Arc::new(Read { sound, unusable });
        Ok(Arc::clone(self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(read)))
    }

    fn check(&self, row: &mut Demonstration, seen: &mut HashSet<String>) -> Result<(), String> {
        let Demonstration { id, prompt, answer, .. } = row;
        not_empty([("id", id), ("prompt", prompt), ("answer", answer)])?;
        if !seen.insert(id.clone()) {
            return Err(format!("another row has the id `{id}`, too; give each its own"));
        }
        self.rows.existing(&mut row.video)
    }
}

#[async_trait]
impl Demonstrations for CheckedDemonstrations {
    async fn prepare(&self) -> Result<(), ComponentError> {
        self.rows.inner.prepare().await
    }

    async fn count(&self) -> Result<u64, ComponentError> {
        Ok(self.read().await?.sound.len() as u64)
    }

    async fn get(&self, index: u64) -> Result<Demonstration, ComponentError> {
        let read = self.read().await?;
        let found = usize::try_from(index).ok().and_then(|index| read.sound.get(index));
        found.cloned().ok_or_else(|| self.rows.wrong("rows", format!("there is no demonstration {index}")))
    }

    async fn unusable(&self) -> Result<Vec<UnusableRow>, ComponentError> {
        Ok(self.read().await?.unusable.clone())
    }

    async fn corpus(&self) -> Result<Vec<String>, ComponentError> {
        self.rows.inner.corpus().await
    }
}

fn not_empty<const N: usize>(texts: [(&str, &mut String); N]) -> Result<(), String> {
    match texts.iter().find(|(_, text)| text.trim().is_empty()) {
        Some((key, _)) => Err(format!("`{key}` is empty")),
        None => Ok(()),
    }
}
