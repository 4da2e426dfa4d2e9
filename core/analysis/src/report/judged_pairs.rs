//! Judged pairs that the page shows of an iteration, and counts of its journals.
//!
//! Pairs are picked by a hash of the sample id, independent of their content: a fixed mix of kept pairs, pairs on which the two
//! presentation orders disagree, and dropped pairs. The same ids come first in every iteration and run, so that a reader can
//! follow a sample.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use isr_api::records::VerdictRecord;
use isr_api::{Fingerprint, SampleId, Verdict, VisualContext};
use isr_run::store::{CountedResponse, iteration_dir};

use crate::report::error::ReportError;
use crate::report::journal::{self, PairLine, ResponseLine};

/// Pairs shown per iteration.
const SHOWN: usize = 5;

/// Counts of an iteration's journals, and the pairs to show.
#[derive(Default)]
pub(crate) struct JudgedPairs {
    pub(crate) contexts: usize,
    pub(crate) responses: usize,
    pub(crate) verdicts: usize,
    pub(crate) pairs: usize,
    pub(crate) shown: Vec<JudgedPair>,
}

/// A judged pair with its responses, verdict and visual contexts.
pub(crate) struct JudgedPair {
    pub(crate) sample: SampleId,
    pub(crate) video: String,
    pub(crate) instruction: String,
    /// The two answers compared, in the order of the verdict, with their index among those sampled.
    pub(crate) answers: [(usize, CountedResponse); 2],
    pub(crate) verdict: Verdict,
    pub(crate) outcome: Outcome,
    /// Iteration of the context that the judge saw.
    pub(crate) seen: Option<u32>,
    /// The video whose context it was.
    pub(crate) context_of: String,
    pub(crate) context: Option<VisualContext>,
    pub(crate) parent: Option<VisualContext>,
}

/// Selection's decision on a judged pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Trained on, with the answer of this position (0 or 1) chosen.
    Kept(usize),
    /// Left out by selection.
    Dropped,
    /// Selection has not run yet.
    Undecided,
}

/// Reads the cases of an iteration.
pub(crate) fn read(run: &Path, iteration: u32) -> Result<JudgedPairs, ReportError> {
    let folder = iteration_dir(run, iteration);
    let verdicts: Vec<VerdictRecord> = journal::read_lines(&folder.join("verdicts.jsonl"))?;
    let pairs_path = folder.join("pairs.jsonl");
    let pairs: Vec<PairLine> = journal::read_lines(&pairs_path)?;
    let outcomes = outcomes(&verdicts, &pairs, pairs_path.is_file());
    let picked = pick(&verdicts, &outcomes);

    let mut cases = JudgedPairs { verdicts: verdicts.len(), pairs: pairs.len(), ..JudgedPairs::default() };
    let answers = read_answers(&folder, &verdicts, &picked, &mut cases)?;
    cases.shown = picked
        .into_iter()
        .filter_map(|index| join(&verdicts[index], outcomes[index], answers.get(&verdicts[index].sample)?))
        .collect();
    cases.contexts = add_contexts(run, iteration, &mut cases.shown)?;
    Ok(cases)
}

fn outcomes(verdicts: &[VerdictRecord], pairs: &[PairLine], decided: bool) -> Vec<Outcome> {
    let kept: HashMap<(&SampleId, [usize; 2]), usize> = pairs
        .iter()
        .flat_map(|pair| {
            let (chosen, rejected) = (pair.chosen_index, pair.rejected_index);
            [((&pair.id, [chosen, rejected]), 0), ((&pair.id, [rejected, chosen]), 1)]
        })
        .collect();
    let outcome = |verdict: &VerdictRecord| match kept.get(&(&verdict.sample, verdict.compared)) {
        Some(&position) => Outcome::Kept(position),
        None if decided => Outcome::Dropped,
        None => Outcome::Undecided,
    };
    verdicts.iter().map(outcome).collect()
}

/// Whether the verdict of an index belongs to a group.
type Belongs<'a> = &'a dyn Fn(&usize) -> bool;

/// Indices of the verdicts to show: up to two kept, one inconsistent, one dropped though consistent,
/// and then whatever comes next.
fn pick(verdicts: &[VerdictRecord], outcomes: &[Outcome]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..verdicts.len()).collect();
    order.sort_by_cached_key(|&index| shuffle_key(&verdicts[index].sample));
    let kept = |index: &usize| matches!(outcomes[*index], Outcome::Kept(_));
    let consistent = |index: &usize| verdicts[*index].verdict.consistent;
    let groups: [(Belongs<'_>, usize); 4] = [
        (&|index| kept(index) && consistent(index), 2),
        (&|index| !consistent(index), 1),
        (&|index| !kept(index) && consistent(index), 1),
        (&|_| true, SHOWN),
    ];
    let mut picked: Vec<usize> = Vec::new();
    for (belongs, most) in groups {
        let room = most.min(SHOWN - picked.len());
        let next: Vec<usize> = order.iter().copied().filter(|index| !picked.contains(index)).collect();
        picked.extend(next.into_iter().filter(belongs).take(room));
    }
    picked
}

/// Orders samples without looking at what is in them.
pub(crate) fn shuffle_key(sample: &SampleId) -> Fingerprint {
    Fingerprint::of(sample.as_str())
}

fn read_answers(
    folder: &Path,
    verdicts: &[VerdictRecord],
    picked: &[usize],
    cases: &mut JudgedPairs,
) -> Result<HashMap<SampleId, ResponseLine>, ReportError> {
    let wanted: HashSet<&SampleId> = picked.iter().map(|&index| &verdicts[index].sample).collect();
    let mut answers = HashMap::new();
    cases.responses = journal::for_each_line(&folder.join("responses.jsonl"), |line: ResponseLine| {
        if wanted.contains(&line.sample) {
            answers.insert(line.sample.clone(), line);
        }
    })?;
    Ok(answers)
}

fn join(record: &VerdictRecord, outcome: Outcome, line: &ResponseLine) -> Option<JudgedPair> {
    let answer = |index: usize| Some((index, line.responses.get(index)?.clone()));
    let [first, second] = record.compared;
    Some(JudgedPair {
        sample: record.sample.clone(),
        video: line.video.clone(),
        instruction: line.instruction.clone(),
        answers: [answer(first)?, answer(second)?],
        verdict: record.verdict.clone(),
        outcome,
        seen: record.context,
        context_of: record.context_of.clone().unwrap_or_else(|| line.video.clone()),
        context: None,
        parent: None,
    })
}

/// Adds the visual context that the judge saw, and the one that it was conditioned on; returns how many
/// contexts this iteration wrote.
fn add_contexts(run: &Path, iteration: u32, cases: &mut [JudgedPair]) -> Result<usize, ReportError> {
    let mut wanted: HashSet<String> = cases.iter().map(|case| case.context_of.clone()).collect();
    let (own, count) = read_contexts(run, iteration, &wanted)?;
    wanted.extend(own.values().filter_map(|context| context.parent_of.clone()));
    let mut known = HashMap::from([(iteration, own)]);
    let mut find = |iteration: Option<u32>, video: &str| -> Result<Option<VisualContext>, ReportError> {
        let Some(iteration) = iteration else { return Ok(None) };
        let contexts = match known.entry(iteration) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(read_contexts(run, iteration, &wanted)?.0),
        };
        Ok(contexts.get(video).cloned())
    };
    for case in cases {
        case.context = find(case.seen, &case.context_of)?;
        if let Some(VisualContext { parent, parent_of, video, .. }) = &case.context {
            case.parent = find(*parent, parent_of.as_ref().unwrap_or(video))?;
        }
    }
    Ok(count)
}

fn read_contexts(
    run: &Path,
    iteration: u32,
    wanted: &HashSet<String>,
) -> Result<(HashMap<String, VisualContext>, usize), ReportError> {
    let path = iteration_dir(run, iteration).join("contexts.jsonl");
    let mut contexts = HashMap::new();
    let count = journal::for_each_line(&path, |context: VisualContext| {
        if wanted.contains(&context.video) {
            contexts.insert(context.video.clone(), context);
        }
    })?;
    Ok((contexts, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(sample: &str, consistent: bool) -> VerdictRecord {
        let verdict = Verdict { p_first: 0.9, votes: Vec::new(), consistent };
        VerdictRecord {
            sample: sample.into(),
            seed: 0,
            context_of: None,
            context: None,
            compared: [0, 1],
            verdict,
            comparisons: vec![],
            oracle: false,
        }
    }

    #[test]
    fn the_mix_shows_each_outcome_and_does_not_depend_on_journal_order() {
        let mut verdicts: Vec<_> =
            (0..20).map(|index| verdict(&format!("s{index}"), index % 5 != 0)).collect();
        let pairs: Vec<_> = (11..20)
            .filter(|index| index % 5 != 0)
            .map(|index| PairLine {
                id: format!("s{index}").as_str().into(),
                chosen_index: 1,
                rejected_index: 0,
            })
            .collect();
        let names = |verdicts: &[VerdictRecord]| {
            let outcomes = outcomes(verdicts, &pairs, true);
            let picked = pick(verdicts, &outcomes);
            let kept = picked.iter().filter(|&&index| outcomes[index] == Outcome::Kept(1)).count();
            let torn = picked.iter().filter(|&&index| !verdicts[index].verdict.consistent).count();
            assert!(picked.len() == SHOWN && kept >= 2 && torn >= 1 && kept + torn < SHOWN);
            picked.into_iter().map(|index| verdicts[index].sample.clone()).collect::<Vec<_>>()
        };
        let forward = names(&verdicts);
        verdicts.reverse();
        assert_eq!(forward, names(&verdicts));
    }

    #[test]
    fn pairs_are_undecided_until_selection_has_run() {
        let verdicts = [verdict("a", true)];
        assert_eq!(outcomes(&verdicts, &[], false), [Outcome::Undecided]);
        assert_eq!(outcomes(&verdicts, &[], true), [Outcome::Dropped]);
    }
}
