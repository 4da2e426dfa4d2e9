//! Preference pairs of a run.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use isr_api::records::{PairRecord, ResponseRecord, VerdictRecord};
use isr_api::{Choice, SampleId, Turn};
use isr_run::store::{iteration_dir, read_journal};

use crate::export::Export;
use crate::export::error::ExportError;

/// A preference pair.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pair {
    /// Unique among all pairs of the run.
    pub(crate) id: String,
    /// Absolute path of the video or image; empty for a pair of text alone.
    pub(crate) video: String,
    /// The video's name in the run's journals.
    pub(crate) video_in_run: String,
    /// Iteration of the pair.
    pub(crate) iteration: u32,
    /// Turns before the prompt.
    pub(crate) turns: Vec<Turn>,
    pub(crate) prompt: String,
    pub(crate) chosen: String,
    pub(crate) rejected: String,
    /// Reasoning before the chosen and the rejected answer, where it is exported.
    pub(crate) reasoning: [Option<String>; 2],
    /// The judge's probability that `chosen` is better.
    pub(crate) p_chosen: f64,
}

impl Pair {
    /// Whether the texts differ and the verdict is decided.
    pub(crate) fn is_decided(&self) -> bool {
        self.chosen != self.rejected && Choice::of_probability(self.p_chosen) != Choice::Tie
    }

    fn of_record(record: PairRecord, responses: &Responses, iteration: u32, root: &Path) -> Self {
        let reasoning = responses.reasoning(&record);
        let PairRecord {
            id,
            video,
            turns,
            prompt,
            chosen,
            rejected,
            chosen_index,
            rejected_index,
            p_chosen,
            ..
        } = record;
        Self {
            id: format!("{id}-t{iteration}-{chosen_index}-{rejected_index}"),
            video: if video.is_empty() { String::new() } else { absolute(root, &video) },
            video_in_run: video,
            iteration,
            turns,
            prompt,
            chosen,
            rejected,
            reasoning,
            p_chosen,
        }
    }
}

/// Reads pairs in the order of iterations and journals; see [`Export`](crate::export::Export) for the options.
pub(crate) fn read(run: &Path, export: &Export) -> Result<Vec<Pair>, ExportError> {
    let Export { iteration, unselected, reasoning, ref video_root, .. } = *export;
    let there = iterations(run);
    if there.is_empty() {
        return Err(ExportError::NotARun { path: run.to_owned() });
    }
    let wanted = match iteration {
        None => there,
        Some(one) if there.contains(&one) => vec![one],
        Some(iteration) => {
            let there = there.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(ExportError::NoIteration { run: run.to_owned(), iteration, there });
        }
    };
    let mut pairs = Vec::new();
    for iteration in wanted {
        let dir = iteration_dir(run, iteration);
        if unselected {
            let responses = Responses::read(&dir)?;
            let records = of_verdicts(run, &dir, iteration, &responses)?;
            let told = if reasoning { responses } else { Responses::default() };
            pairs.extend(records.into_iter().map(|it| Pair::of_record(it, &told, iteration, video_root)));
        } else {
            let records: Vec<PairRecord> = read_journal(&dir.join("pairs.jsonl"))?;
            let told = if reasoning { Responses::read(&dir)? } else { Responses::default() };
            pairs.extend(records.into_iter().map(|it| Pair::of_record(it, &told, iteration, video_root)));
        }
    }
    Ok(pairs)
}

/// The iterations from 1 that have a folder, in order.
fn iterations(run: &Path) -> Vec<u32> {
    let names = fs::read_dir(run).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let number = |name: std::ffi::OsString| name.to_str()?.strip_prefix("iteration-")?.parse().ok();
    let mut numbers: Vec<u32> = names.filter_map(number).filter(|number| *number > 0).collect();
    numbers.sort_unstable();
    numbers
}

/// The responses of an iteration by sample.
#[derive(Default)]
struct Responses(HashMap<SampleId, ResponseRecord>);

impl Responses {
    fn read(dir: &Path) -> Result<Self, ExportError> {
        let records: Vec<ResponseRecord> = read_journal(&dir.join("responses.jsonl"))?;
        Ok(Self(records.into_iter().map(|it| (it.sample.clone(), it)).collect()))
    }

    /// Reasoning before the chosen and the rejected answer of a pair; that of datasets is part of their texts.
    fn reasoning(&self, pair: &PairRecord) -> [Option<String>; 2] {
        let record = self.0.get(&pair.id).filter(|_| pair.origin.is_none());
        [pair.chosen_index, pair.rejected_index]
            .map(|index| Some(record?.responses.get(index)?.reasoning.as_ref()?.text.clone()))
    }
}

/// A pair per verdict, ordered by the judge's probability.
fn of_verdicts(
    run: &Path,
    dir: &Path,
    iteration: u32,
    responses: &Responses,
) -> Result<Vec<PairRecord>, ExportError> {
    let verdicts: Vec<VerdictRecord> = read_journal(&dir.join("verdicts.jsonl"))?;
    let pair = |VerdictRecord { sample, compared: [first, second], verdict, oracle, .. }: VerdictRecord| {
        let p_first = verdict.p_first;
        let (chosen_index, rejected_index, p_chosen) = match verdict.choice() {
            Choice::Second => (second, first, 1.0 - p_first),
            Choice::First | Choice::Tie => (first, second, p_first),
        };
        let record = responses.0.get(&sample);
        let text = |index: usize| Some(record?.responses.get(index)?.text.clone());
        match (record, text(chosen_index), text(rejected_index)) {
            (Some(record), Some(chosen), Some(rejected)) => Ok(PairRecord {
                id: sample,
                video: record.video.clone(),
                turns: Vec::new(),
                prompt: record.instruction.clone(),
                chosen,
                rejected,
                chosen_index,
                rejected_index,
                p_chosen,
                oracle,
                origin: None,
            }),
            _ => {
                Err(ExportError::NoResponses { run: run.to_owned(), iteration, sample: sample.to_string() })
            }
        }
    };
    verdicts.into_iter().map(pair).collect()
}

fn absolute(root: &Path, video: &str) -> String {
    let path: PathBuf = root.join(video);
    // Without a current folder there is nothing to start from.
    let path = std::path::absolute(&path).unwrap_or(path);
    isr_api::video_key(&path)
}
