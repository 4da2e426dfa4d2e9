//! Failed cases and wall-clock time of a judge.

use std::collections::BTreeMap;
use std::path::Path;

use isr_api::Error;
use isr_api::records::QuarantineRecord;
use isr_run::store::{read_journal, read_readable};
use serde::{Deserialize, Serialize};

use crate::audit::position::share;

/// The stage of the journals that is a judge's.
const STAGE: &str = "judge";

/// Cases without a verdict: unparsable replies, prompts beyond the context length, unreadable videos.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failures {
    /// Number of failed cases.
    pub count: usize,
    /// Share of all cases; null without cases.
    pub share: Option<f64>,
    /// Number of cases by the judge's error message.
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

/// Wall-clock seconds of judging an iteration, summed over sessions that completed the stage; `None` where not recorded. A killed
/// session records none.
pub(crate) fn seconds(folder: &Path, iteration: u32) -> Result<Option<f64>, Error> {
    #[derive(Deserialize)]
    struct TimingLine {
        iteration: u32,
        stage: String,
        seconds: f64,
    }
    let lines: Vec<TimingLine> = read_readable(&folder.join("timings.jsonl"));
    let of_judge = lines.iter().filter(|line| line.iteration == iteration && line.stage == STAGE);
    let seconds: Vec<f64> = of_judge.map(|line| line.seconds).collect();
    Ok((!seconds.is_empty()).then(|| seconds.iter().sum()))
}
