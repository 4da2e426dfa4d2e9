//! Storage of annotations: `annotations.jsonl`, locked by one process.
//!
//! A choice is appended and fsynced. Undo rewrites the file without its line, atomically (temporary file, fsync, rename). A lock
//! file excludes a second server.

use std::path::{Path, PathBuf};

use isr_api::records::Annotation;
use isr_run::store::{FileLock, Journal, write_atomic};

use crate::annotate::ANNOTATIONS;
use crate::annotate::error::AnnotateError;

/// All annotations of a run.
pub(crate) struct AnnotationStore {
    path: PathBuf,
    journal: Journal<Annotation>,
    lines: Vec<Annotation>,
    _lock: FileLock,
}

impl AnnotationStore {
    /// Opens or creates a run's annotations and takes the lock.
    pub(crate) fn open(run: &Path) -> Result<Self, AnnotateError> {
        let lock = lock(run)?;
        let path = run.join(ANNOTATIONS);
        let (journal, lines) = Journal::open(&path)?;
        Ok(Self { path, journal, lines, _lock: lock })
    }

    /// All annotations, oldest first.
    pub(crate) fn lines(&self) -> &[Annotation] {
        &self.lines
    }

    /// Appends an annotation; it is fsynced when this returns.
    pub(crate) fn append(&mut self, annotation: Annotation) -> Result<(), AnnotateError> {
        self.journal.append(&annotation)?;
        self.journal.sync()?;
        self.lines.push(annotation);
        Ok(())
    }

    /// Removes the annotation at `index` and returns it.
    pub(crate) fn remove(&mut self, index: usize) -> Result<Annotation, AnnotateError> {
        let text = std::fs::read_to_string(&self.path).map_err(|source| isr_api::Error::Io {
            action: "read",
            path: self.path.clone(),
            source,
        })?;
        // The lines of others stay as they were written, to the byte.
        let kept = text.split_inclusive('\n').filter(|line| !line.trim().is_empty());
        let kept: String = kept.enumerate().filter(|(at, _)| *at != index).map(|(_, line)| line).collect();
        write_atomic(&self.path, kept.as_bytes())?;
        let removed = self.lines.remove(index);
        // The old journal appends to the replaced file.
        (self.journal, _) = Journal::open(&self.path)?;
        Ok(removed)
    }
}

fn lock(run: &Path) -> Result<FileLock, AnnotateError> {
    let path = run.join(".annotations.lock");
    match FileLock::try_take(&path) {
        Ok(Some(lock)) => Ok(lock),
        Ok(None) => Err(AnnotateError::InUse { path: run.to_owned() }),
        Err(source) => Err(AnnotateError::Lock { path, source }),
    }
}
