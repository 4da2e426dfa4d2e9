//! Self-contained HTML report of one or several run directories: `isr report`.
//!
//! The page has no scripts or external resources, can be printed, and has a light and a dark mode. Several runs are compared:
//! every chart has one line per run.
//!
//! | step | where |
//! |---|---|
//! | journals -> data of a run | `run`, `journal`, `judged_pairs` |
//! | figures -> charts | `figures`, `training`, `chart` |
//! | figures -> tables and summary cards, and what came of it in a sentence | `tables`, `timings`, `summary`, `outcome` |
//! | audit -> table of judges | `audit` |
//! | samples -> film strips and cards | `filmstrip`, `examples`, `held_out` |
//! | everything -> HTML | `page`, `templates/` |
//!
//! Journals are streamed; only responses that the page shows are kept in memory. The template engine escapes everything that a run
//! wrote. Frames and facts come from the caller, by [`FrameSource`] and [`FactSource`].

mod audit;
mod chart;
mod error;
mod examples;
mod figures;
mod filmstrip;
mod format;
mod held_out;
mod journal;
mod judged_pairs;
mod outcome;
mod page;
mod run;
mod summary;
mod table;
mod tables;
mod timings;
mod training;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

pub use chart::{ChartView, KeyView, Line, Plot, Point, key};
pub use error::ReportError;
pub use format::{MISSING, Unit, words};
use isr_api::{Frames, SampleId};
pub use page::render_page;
pub use table::Table;
pub use timings::duration_of;

/// Decodes videos of run directories. A function of a run directory and a video is one, for runs that see the same frames
/// in all iterations.
pub trait FrameSource {
    /// Decodes a video, named as in the journals ([`isr_api::video_key`]), as the run saw it in an iteration; `None` is
    /// evaluation. No frames mark it as missing on the page. Called at most once per run and video, and per iteration if
    /// the run [draws frames](Self::draws_frames).
    fn frames(&self, run: &Path, video: &str, iteration: Option<u32>) -> Option<Frames>;

    /// Returns whether the run saw other frames in each iteration. Default: false.
    fn draws_frames(&self, run: &Path) -> bool {
        let _ = run;
        false
    }
}

impl<F: Fn(&Path, &str) -> Option<Frames>> FrameSource for F {
    fn frames(&self, run: &Path, video: &str, _: Option<u32>) -> Option<Frames> {
        self(run, video)
    }
}

/// Callback that returns the quality of a response to a training sample of a run directory
/// ([`crate::audit::TruthSource`]). `None` where it is unknown.
pub type FactSource<'a> = dyn Fn(&Path, &SampleId, &str) -> Option<f64> + 'a;

/// Writes the report of the run directories `runs` to the file `out`, replacing an older one atomically. Runs keep their order.
///
/// # Errors
/// See [`render_report`]; [`ReportError::Io`] where `out` cannot be written.
pub fn write_report(
    runs: &[PathBuf],
    out: &Path,
    frames: &dyn FrameSource,
    facts: &FactSource<'_>,
) -> Result<(), ReportError> {
    let html = render_report(runs, frames, facts)?;
    let mut aside = out.as_os_str().to_owned();
    aside.push(".partial");
    let aside = PathBuf::from(aside);
    write_synced(&aside, &html).map_err(|source| ReportError::io("write", &aside, source))?;
    fs::rename(&aside, out).map_err(|source| ReportError::io("replace", out, source))
}

/// Renders the report of the run directories `runs` as HTML.
///
/// # Errors
/// [`ReportError::NoRuns`] for an empty list; [`ReportError::NotARun`], [`ReportError::UnknownSchema`],
/// [`ReportError::Damaged`] and [`ReportError::Audit`] for unusable run directories. Missing files of an unfinished iteration
/// and a truncated last line of a journal are not errors.
pub fn render_report(
    runs: &[PathBuf],
    frames: &dyn FrameSource,
    facts: &FactSource<'_>,
) -> Result<String, ReportError> {
    if runs.is_empty() {
        return Err(ReportError::NoRuns);
    }
    let mut runs = runs.iter().map(|dir| run::Run::read(dir, facts)).collect::<Result<Vec<_>, _>>()?;
    run::tell_apart(&mut runs);
    page::render(&runs, frames)
}

fn write_synced(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
