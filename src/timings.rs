//! `timings.jsonl`: how long each stage took.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use isr_api::{Error, Event, Observer};
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
    /// True where those were another run's; else not written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    shared: bool,
}

/// Writes `timings.jsonl` into a run directory. By nature it differs between equal runs.
pub struct TimingsObserver {
    journal: Mutex<Journal<Timing>>,
}

impl TimingsObserver {
    /// Appends to the file in `run`.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn open(run: &Path) -> Result<Self, Error> {
        let (journal, _) = Journal::open(&run.join("timings.jsonl"))?;
        Ok(Self { journal: Mutex::new(journal) })
    }
}

impl Observer for TimingsObserver {
    fn observe(&self, event: &Event<'_>) {
        let (iteration, stage, seconds, shared) = match event {
            Event::StageFinished { iteration, stage, seconds } => (*iteration, stage, *seconds, false),
            Event::StageShared { iteration, stage, seconds } => (*iteration, stage, *seconds, true),
            _ => return,
        };
        let timing = Timing { iteration, stage: stage.name().to_owned(), seconds, shared };
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = journal.append(&timing) {
            tracing::warn!(%error, "a timing is lost");
        }
    }
}
