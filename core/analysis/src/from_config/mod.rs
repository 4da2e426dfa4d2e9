//! Analyses of a run with the components that its own `config.toml` names, for async callers.
//!
//! The other modules are synchronous and are lent callbacks: frames of a video, quality of an answer. Here the callbacks
//! come from the run's config: `[video]` reads frames; `[data]` and `[evaluator]` measure answers. Component types must be
//! linked into the program (`isr-dpo` links all of this repository). No model is loaded.
//!
//! Each function runs its work on a thread of tokio's blocking pool and can be awaited on any runtime, a current-thread one
//! included. Dropping the future does not stop work that has begun.

mod blocking;
mod facts;
mod video;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use isr_api::{Frames, SampleId};
use isr_run::store::check_journals;
use serde::Serialize;

use self::blocking::blocking;
use self::facts::Facts;
use self::video::{RunVideos, VideosOfRuns};
use crate::audit::{AuditError, RunAudit};
use crate::export::{Export, ExportError, Exported, Pictures};
use crate::report::ReportError;

/// Audit of a run's judges, with the reason where they were not compared with the facts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audited {
    /// Figures of every judge.
    #[serde(flatten)]
    pub audit: RunAudit,
    /// Why the facts of the run's training samples are unknown; null where they are known.
    pub no_facts: Option<String>,
}

/// Audits the judges of the run in the folder `run`. `others` are folders of other judges' verdicts on the same answers.
///
/// # Errors
/// See [`crate::audit::audit`]. Unknown facts are no error: [`Audited::no_facts`] gives the reason.
pub async fn audit_run(run: &Path, others: &[PathBuf]) -> Result<Audited, AuditError> {
    let (run, others) = (run.to_owned(), others.to_vec());
    blocking(move |runtime| {
        check_journals(&run)?;
        let (facts, no_facts) = match Facts::of_run(&run, runtime) {
            Ok(facts) => (Some(facts), None),
            Err(reason) => (None, Some(reason)),
        };
        let quality = |sample: &SampleId, text: &str| facts.as_ref()?.quality(sample, text);
        Ok(Audited { audit: crate::audit::audit(&run, &others, &quality)?, no_facts })
    })
    .await
}

/// Writes the HTML report of the run directories `runs` to the file `out`, replacing an older one atomically. Frames are
/// those of each run's own reader; a video that it can not open any more is shown as missing.
///
/// # Errors
/// See [`crate::report::write_report`].
pub async fn write_report(runs: &[PathBuf], out: &Path) -> Result<(), ReportError> {
    let (runs, out) = (runs.to_vec(), out.to_owned());
    blocking(move |runtime| {
        runs.iter().try_for_each(|run| check_journals(run)).map_err(AuditError::from)?;
        let videos_of = |run: &PathBuf| Some((run.clone(), RunVideos::of(run)?));
        let frames = VideosOfRuns { runs: runs.iter().filter_map(videos_of).collect(), runtime };
        let facts_of = |run: &'_ PathBuf| Some((run.clone(), Facts::of_run(run, runtime).ok()?));
        let facts: HashMap<PathBuf, Facts> = runs.iter().filter_map(facts_of).collect();
        let quality = |run: &Path, sample: &SampleId, text: &str| facts.get(run)?.quality(sample, text);
        crate::report::write_report(&runs, &out, &frames, &quality)
    })
    .await
}

/// Writes the preference pairs of the run in the folder `run` to the file `out`. `frames` is a folder for the frames of each video
/// as PNG files, for trainers that read images only; `None` writes no images.
///
/// # Errors
/// See [`Export::write`].
pub async fn write_export(
    run: &Path,
    export: &Export,
    out: &Path,
    frames: Option<&Path>,
) -> Result<Exported, ExportError> {
    let (run, export, out) = (run.to_owned(), export.clone(), out.to_owned());
    let dir = frames.map(Path::to_owned);
    blocking(move |runtime| {
        check_journals(&run)?;
        let videos = RunVideos::of(&run);
        let read = |path: &Path, name: &str, iteration: u32| -> Option<Frames> {
            videos.as_ref()?.read(runtime, path, name, Some(iteration))
        };
        let by_iteration = videos.as_ref().is_some_and(RunVideos::draws_frames);
        let pictures = dir.as_ref().map(|dir| Pictures { dir, frames: &read, by_iteration });
        export.write(&run, &out, pictures.as_ref())
    })
    .await
}
