//! The selection of preference pairs.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use isr_api::records::{PairRecord, PairSummary, ResponseRecord, VerdictRecord};
use isr_api::{Candidate, ComponentError, Decision, Error, Response, SampleId};

use super::IterativeLoop;
use super::stage::in_iteration;
use crate::guard::caught;
use crate::store::{LineDigests, distinct_responses, to_lines, write_atomic};
use crate::training::Training;

/// The preference pairs, in the directory of an iteration.
pub(super) const PAIRS: &str = "pairs.jsonl";

/// Drop reason of samples whose responses all have the same text.
const IDENTICAL: &str = "identical responses";

/// Drop reason of samples without two different answers, where responses end within their reasoning.
const UNANSWERED: &str = "cut while reasoning";

/// The preference pairs and the statistics of the selection.
pub(super) struct Selected {
    pub(super) pairs: Vec<PairRecord>,
    pub(super) summary: PairSummary,
}

impl IterativeLoop {
    /// Turns verdicts into preference pairs.
    pub(super) fn select(
        &self,
        t: u32,
        responses: &[ResponseRecord],
        verdicts: Vec<VerdictRecord>,
    ) -> Result<Selected, Error> {
        let dir = self.parts.store.iteration(t)?;
        let by_sample: HashMap<_, _> = responses.iter().map(|record| (&record.sample, record)).collect();
        check_compared(&dir, &by_sample, &verdicts)?;
        let responses_to = |verdict: &VerdictRecord| by_sample.get(&verdict.sample).copied();
        let judged = verdicts.iter().filter_map(|verdict| Some((responses_to(verdict)?, verdict)));
        let judged: Vec<_> = judged.collect();
        let decisions = self.decide(t, &judged)?;

        let mut pairs = Vec::new();
        let mut dropped = BTreeMap::new();
        let alike = responses.iter().filter(|record| distinct_responses(&record.responses).len() < 2);
        for record in alike {
            let reason =
                if record.responses.iter().any(Response::is_unanswered) { UNANSWERED } else { IDENTICAL };
            *dropped.entry(reason.to_owned()).or_insert(0) += 1;
        }
        for ((record, verdict), decision) in judged.into_iter().zip(decisions) {
            match decision {
                Decision::ChooseFirst => pairs.push(pair(record, verdict, true)),
                Decision::ChooseSecond => pairs.push(pair(record, verdict, false)),
                Decision::Drop(reason) => *dropped.entry(reason).or_insert(0) += 1,
            }
        }
        let summary = PairSummary { kept: pairs.len(), dropped, from_data: 0 };
        Ok(Selected { pairs, summary })
    }

    fn decide(&self, t: u32, judged: &[(&ResponseRecord, &VerdictRecord)]) -> Result<Vec<Decision>, Error> {
        let candidates: Vec<_> =
            judged.iter().map(|(record, verdict)| candidate(record, verdict)).collect();
        let subject = format!("{} candidates", candidates.len());
        caught(&in_iteration(t, "select"), &subject, || {
            let decisions = self.parts.components.selection.select(&candidates);
            if decisions.len() != candidates.len() {
                let text = format!("the selection returned {} decisions, not one each", decisions.len());
                return Err(ComponentError::failed(text));
            }
            Ok(decisions)
        })
    }
}

/// Rejects verdicts on responses that are not there.
fn check_compared(
    dir: &Path,
    by_sample: &HashMap<&SampleId, &ResponseRecord>,
    verdicts: &[VerdictRecord],
) -> Result<(), Error> {
    for (line, verdict) in (1..).zip(verdicts) {
        let count = by_sample.get(&verdict.sample).map_or(usize::MAX, |record| record.responses.len());
        if verdict.compared.iter().any(|&index| index >= count) {
            let path = dir.join("verdicts.jsonl");
            let (sample, [one, other]) = (&verdict.sample, verdict.compared);
            let reason =
                format!("line {line} compares responses {one} and {other} of {count} to `{sample}`");
            return Err(Error::Damaged { path, reason });
        }
    }
    Ok(())
}

/// Writes `pairs.jsonl`, or checks it where the training on these pairs is finished.
pub(super) fn write_pairs(dir: &Path, pairs: &[PairRecord]) -> Result<(), Error> {
    let path = dir.join(PAIRS);
    let text = to_lines(&path, pairs)?;
    if !Training::checkpoint(dir).exists() {
        return write_atomic(&path, text.as_bytes());
    }
    let trained_on = fs::read(&path).map_err(|error| Error::io("read", &path, error))?;
    match LineDigests::of(&trained_on).difference(&LineDigests::of(text.as_bytes()), |at| at + 1) {
        Some(difference) => {
            let reason =
                format!("it is not what the verdicts give, and its training is finished: {difference}");
            Err(Error::Damaged { path, reason })
        }
        None => Ok(()),
    }
}

pub(super) fn no_pairs(t: u32, dropped: &BTreeMap<String, usize>) -> Error {
    let reasons: Vec<_> = dropped.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
    let reasons = if reasons.is_empty() { "all were quarantined".to_owned() } else { reasons.join(", ") };
    Error::NoPairs { iteration: t, candidates: dropped.values().sum(), reasons }
}

fn candidate(record: &ResponseRecord, verdict: &VerdictRecord) -> Candidate {
    let [first, second] = verdict.compared.map(|index| record.responses[index].answer_alone());
    Candidate { sample: record.sample.clone(), first, second, verdict: verdict.verdict.clone() }
}

fn pair(record: &ResponseRecord, verdict: &VerdictRecord, first_wins: bool) -> PairRecord {
    let [first, second] = verdict.compared;
    let (chosen_index, rejected_index) = if first_wins { (first, second) } else { (second, first) };
    let p_first = verdict.verdict.p_first;
    PairRecord {
        id: record.sample.clone(),
        video: record.video.clone(),
        turns: Vec::new(),
        prompt: record.instruction.clone(),
        chosen: record.responses[chosen_index].text.clone(),
        rejected: record.responses[rejected_index].text.clone(),
        chosen_index,
        rejected_index,
        p_chosen: if first_wins { p_first } else { 1.0 - p_first },
        oracle: verdict.oracle,
        origin: None,
    }
}
