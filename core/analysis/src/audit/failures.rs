//! Verdicts that could not be had, and how long the others took.

use std::collections::BTreeMap;
use std::path::Path;

use isr_api::Error;
use isr_api::records::QuarantineRecord;
use isr_run::store::read_journal;
use serde::{Deserialize, Serialize};

use crate::audit::position::share;

/// The stage of the journals that is a judge's.
const STAGE: &str = "judge";

/// Cases that the judge gave up on: replies that cannot be read, prompts that do not fit, videos that cannot
/// be opened any more.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failures {
    /// How many.
    pub count: usize,
    /// Their share of all cases; null where there were none.
    pub share: Option<f64>,
    /// How often each reason was given, as the judge said it.
    pub reasons: BTreeMap<String, usize>,
}

impl Failures {
    /// Of the quarantine in an iteration's folder.
    pub(crate) fn read(folder: &Path, verdicts: usize) -> Result<Self, Error> {
        let records: Vec<QuarantineRecord> = read_journal(&folder.join("quarantine.jsonl"))?;
        let mut reasons = BTreeMap::new();
        for record in records.into_iter().filter(|record| record.stage == STAGE) {
            *reasons.entry(record.reason).or_insert(0) += 1;
        }
        let count = reasons.values().sum();
        Ok(Self { count, share: share(count, count + verdicts), reasons })
    }
}

/// Wall-clock seconds of judging an iteration, over the sessions that came to its end; `None` where they
/// were not recorded. A session that was killed before has left none.
pub(crate) fn seconds(folder: &Path, iteration: u32) -> Result<Option<f64>, Error> {
    #[derive(Deserialize)]
    struct TimingLine {
        iteration: u32,
        stage: String,
        seconds: f64,
    }
    let lines: Vec<TimingLine> = read_journal(&folder.join("timings.jsonl"))?;
    let of_judge = lines.iter().filter(|line| line.iteration == iteration && line.stage == STAGE);
    let seconds: Vec<f64> = of_judge.map(|line| line.seconds).collect();
    Ok((!seconds.is_empty()).then(|| seconds.iter().sum()))
}
