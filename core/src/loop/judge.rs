//! Judging two responses of each sample, and choosing what to train on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::IterativeLoop;
use super::resume::Contexts;
use super::stage::{StageItem, StagePlan, StageRecord};
use crate::error::{ComponentError, Error};
use crate::judge::{JudgeCase, Verdict};
use crate::observer::Stage;
use crate::response::Response;
use crate::retrospector::VisualContext;
use crate::selection::{Candidate, Decision};
use crate::store::{PairRecord, PairSummary, ResponseRecord, VerdictRecord, to_lines, write_atomic};

/// The reason for leaving out a sample all of whose responses say the same.
const IDENTICAL: &str = "identical responses";

/// Two different responses to judge.
struct Contest {
    record: ResponseRecord,
    compared: [usize; 2],
    context: Option<VisualContext>,
}

impl StageItem for Contest {
    fn subject(&self) -> String {
        self.record.sample.0.clone()
    }
}

impl StageRecord for VerdictRecord {
    fn subject(&self) -> &str {
        self.sample.as_str()
    }
}

/// What selection kept, and what became of the rest.
pub(super) struct Selected {
    pub(super) pairs: Vec<PairRecord>,
    pub(super) summary: PairSummary,
}

impl IterativeLoop {
    /// Judges the first two different responses of each sample: p(y1 > y2 | V, x, c_t).
    pub(super) async fn judge(
        &self,
        t: u32,
        responses: &[ResponseRecord],
        contexts: &Contexts,
    ) -> Result<Vec<VerdictRecord>, Error> {
        let needs_context = self.parts.components.retrospector.is_some();
        let contest = |record: &ResponseRecord| {
            let context = contexts.get(&record.video).cloned();
            // Its video was quarantined while being described.
            if needs_context && context.is_none() {
                return None;
            }
            let compared = first_difference(&record.responses)?;
            Some(Contest { record: record.clone(), compared, context })
        };
        let items: Vec<Contest> = responses.iter().filter_map(contest).collect();
        let plan = StagePlan {
            iteration: t,
            stage: Stage::Judge,
            journal: "verdicts.jsonl",
            population: responses.len(),
        };
        self.run_stage(plan, items, |item| {
            let (scenes, policy) = (Arc::clone(&self.scenes), self.frozen.clone());
            let judge = Arc::clone(&self.parts.components.judge);
            let seed = self.streams.seed(t, Stage::Judge.name(), item.record.sample.as_str());
            async move {
                let scene = scenes.open(item.record.video.as_ref()).await?;
                let [first, second] = item.compared.map(|index| item.record.responses[index].clone());
                let context_iteration = item.context.as_ref().map(|context| context.iteration);
                let (instruction, context) = (item.record.instruction, item.context);
                let case = JudgeCase { scene, instruction, context, first, second, seed };
                let verdict = judge.judge(&case, &policy).await?;
                check_verdict(&verdict)?;
                Ok(VerdictRecord {
                    sample: item.record.sample,
                    seed,
                    context: context_iteration,
                    compared: item.compared,
                    verdict,
                })
            }
        })
        .await
    }

    /// Turns verdicts into preference pairs, and writes them.
    pub(super) fn select(
        &self,
        t: u32,
        responses: &[ResponseRecord],
        verdicts: &[VerdictRecord],
    ) -> Result<Selected, Error> {
        let by_sample: HashMap<_, _> = responses.iter().map(|record| (&record.sample, record)).collect();
        let judged: Vec<_> = verdicts
            .iter()
            .filter_map(|verdict| by_sample.get(&verdict.sample).map(|record| (*record, verdict)))
            .collect();
        let candidates: Vec<Candidate> = judged.iter().map(|(record, verdict)| candidate(record, verdict)).collect();
        let decisions = self.parts.components.selection.select(&candidates);
        let identical = responses.iter().filter(|record| first_difference(&record.responses).is_none()).count();

        let mut pairs = Vec::new();
        let mut dropped = BTreeMap::new();
        if identical > 0 {
            dropped.insert(IDENTICAL.to_owned(), identical);
        }
        for ((record, verdict), decision) in judged.into_iter().zip(decisions) {
            match decision {
                Decision::ChooseFirst => pairs.push(pair(record, verdict, true)),
                Decision::ChooseSecond => pairs.push(pair(record, verdict, false)),
                Decision::Drop(reason) => *dropped.entry(reason).or_insert(0) += 1,
            }
        }
        if pairs.is_empty() {
            let reasons: Vec<_> = dropped.iter().map(|(reason, count)| format!("{reason}: {count}")).collect();
            let candidates = candidates.len() + identical;
            return Err(Error::NoPairs { iteration: t, candidates, reasons: reasons.join(", ") });
        }
        let path = self.parts.store.iteration(t)?.join("pairs.jsonl");
        write_atomic(&path, to_lines(&path, &pairs)?.as_bytes())?;
        let summary = PairSummary { kept: pairs.len(), dropped };
        Ok(Selected { pairs, summary })
    }
}

/// The first two responses whose texts differ.
fn first_difference(responses: &[Response]) -> Option<[usize; 2]> {
    let first = responses.first()?;
    let other = responses.iter().position(|response| response.text.trim() != first.text.trim())?;
    Some([0, other])
}

fn check_verdict(verdict: &Verdict) -> Result<(), ComponentError> {
    let probabilities = verdict.votes.iter().map(|vote| vote.p_first).chain([verdict.p_first]);
    for p in probabilities {
        if !(0.0..=1.0).contains(&p) {
            return Err(ComponentError::bad_input(format!("the judge's probability is {p}, not in [0, 1]")));
        }
    }
    Ok(())
}

fn candidate(record: &ResponseRecord, verdict: &VerdictRecord) -> Candidate {
    let [first, second] = verdict.compared.map(|index| record.responses[index].clone());
    Candidate { sample: record.sample.clone(), first, second, verdict: verdict.verdict.clone() }
}

fn pair(record: &ResponseRecord, verdict: &VerdictRecord, first_wins: bool) -> PairRecord {
    let [first, second] = verdict.compared;
    let (chosen_index, rejected_index) = if first_wins { (first, second) } else { (second, first) };
    let p_first = verdict.verdict.p_first;
    PairRecord {
        id: record.sample.clone(),
        video: record.video.clone(),
        prompt: record.instruction.clone(),
        chosen: record.responses[chosen_index].text.clone(),
        rejected: record.responses[rejected_index].text.clone(),
        chosen_index,
        rejected_index,
        p_chosen: if first_wins { p_first } else { 1.0 - p_first },
    }
}
