//! `isr report`: one self-contained HTML page from one or several run directories.
//!
//! The page fetches nothing, runs no script, prints, and follows the reader's light or dark mode.
//! Given several runs, it compares them: one line a run in every chart.
//!
//! | step | where |
//! |---|---|
//! | journals -> what the page needs of a run | `run`, `journal`, `judged_pairs` |
//! | figures -> charts | `figures`, `training`, `chart` |
//! | figures -> tables and summary cards | `tables`, `summary` |
//! | `isr-audit` -> the table of the judges | `audit` |
//! | samples -> film strips and cards | `filmstrip`, `examples`, `held_out` |
//! | everything -> HTML | `page`, `templates/` |
//!
//! Journals are streamed: of the responses, only those that the page shows are held in memory.
//! Everything that a run wrote is escaped by the template engine. No video is decoded here; the
//! caller lends a [`FrameSource`], and what is true in a [`FactSource`].

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
mod page;
mod run;
mod summary;
mod table;
mod tables;
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

/// Gives the frames of a video, named as in the journals ([`isr_api::video_key`]); `None` where it
/// cannot be read any more, which the page then says. Asked at most once a video.
pub type FrameSource<'a> = dyn Fn(&str) -> Option<Frames> + 'a;

/// Says how good an answer to a run's training sample is by the facts ([`crate::audit::TruthSource`]), by run
/// directory; `None` where nothing is known.
pub type FactSource<'a> = dyn Fn(&Path, &SampleId, &str) -> Option<f64> + 'a;

/// Writes the report of `runs` to the file `out`, replacing an older one whole. The first run leads
/// where an order matters.
///
/// # Errors
/// See [`render_report`]; [`ReportError::Io`] where `out` cannot be written.
pub fn write_report(
    runs: &[PathBuf],
    out: &Path,
    frames: &FrameSource<'_>,
    facts: &FactSource<'_>,
) -> Result<(), ReportError> {
    let html = render_report(runs, frames, facts)?;
    let mut aside = out.as_os_str().to_owned();
    aside.push(".partial");
    let aside = PathBuf::from(aside);
    write_synced(&aside, &html).map_err(|source| ReportError::io("write", &aside, source))?;
    fs::rename(&aside, out).map_err(|source| ReportError::io("replace", out, source))
}

/// The report of `runs` as HTML text.
///
/// # Errors
/// [`ReportError::NotARun`], [`ReportError::UnknownSchema`] and [`ReportError::Damaged`] for run
/// directories that cannot be understood. Files that an unfinished iteration lacks, and a last line
/// that was cut off while it was written, are no errors.
pub fn render_report(
    runs: &[PathBuf],
    frames: &FrameSource<'_>,
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
