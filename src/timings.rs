//! `timings.jsonl`: how long each stage took, and how long of it the policy's device had work.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use isr_api::{Event, Observer};
use isr_run::store::Journal;
use serde::{Deserialize, Serialize};

/// A line of `timings.jsonl`. A stage that was cut and continued has a line for each session in which
/// it ended or was found complete; one that was taken over from another run has a line of what it took there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Timing {
    /// The iteration; 0 is the starting model's evaluation.
    iteration: u32,
    /// The stage.
    stage: String,
    /// Wall-clock seconds in one session.
    seconds: f64,
    /// Seconds of those in which the policy's device had work; not written where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    busy: Option<f64>,
    /// Seconds that each process worked before it waited for the others, by rank; not written with one process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    processes: Vec<f64>,
    /// True where those were another run's; else not written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared: bool,
}

/// Writes `timings.jsonl` into a run directory. By nature it differs between equal runs, and it is no result: where
/// it cannot be written the run goes on.
pub struct TimingsObserver {
    journal: Option<Mutex<Journal<Timing>>>,
    /// Seconds of each process in the stage that ends next.
    processes: Mutex<Vec<f64>>,
}

impl TimingsObserver {
    /// Appends to the file in `run`, whatever is in it. Warns if it cannot be opened.
    pub fn open(run: &Path) -> Self {
        let journal = Journal::open_unread(&run.join("timings.jsonl"));
        let journal = journal.inspect_err(|error| tracing::warn!(%error, "timings are not recorded"));
        Self { journal: journal.ok().map(Mutex::new), processes: Mutex::default() }
    }
}

impl Observer for TimingsObserver {
    fn observe(&self, event: &Event<'_>) {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let (iteration, stage, seconds, busy, shared) = match event {
            Event::StageFinished { iteration, stage, seconds, busy } => {
                (*iteration, stage, *seconds, *busy, false)
            }
            Event::StageDivided { seconds, .. } => {
                *processes = seconds.to_vec();
                return;
            }
            Event::StageShared { iteration, stage, seconds } => (*iteration, stage, *seconds, None, true),
            _ => return,
        };
        let (stage, processes) = (stage.name().to_owned(), std::mem::take(&mut *processes));
        let timing = Timing { iteration, stage, seconds, busy, processes, shared };
        let Some(journal) = &self.journal else { return };
        let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = journal.append(&timing) {
            tracing::warn!(%error, "a timing is lost");
        }
    }
}
