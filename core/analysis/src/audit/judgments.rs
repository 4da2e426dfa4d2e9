//! Verdicts with the answers that they are about.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use isr_api::records::VerdictRecord;
use isr_api::{Choice, SampleId, Verdict};
use isr_run::store::{CountedResponse, iteration_dir, read_journal, scan_journal};
use isr_run::words::excess_words;
use serde::Deserialize;

use crate::audit::error::AuditError;
use crate::audit::length::Excess;

/// A verdict on two answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judgment {
    pub(crate) sample: SampleId,
    pub(crate) texts: [String; 2],
    pub(crate) tokens: [usize; 2],
    pub(crate) verdict: Verdict,
    pub(crate) oracle: bool,
}

impl Judgment {
    pub(crate) fn choice(&self) -> Choice {
        self.verdict.choice()
    }

    /// What the first answer has more.
    pub(crate) fn excess(&self) -> Excess {
        let ([first, second], [one, other]) = (&self.texts, self.tokens);
        Excess { tokens: one as f64 - other as f64, words: excess_words(first, second) }
    }

    /// The verdict by the order of two texts; `None` where it is about others.
    pub(crate) fn verdict_on(&self, [first, second]: &[String; 2]) -> Option<Verdict> {
        match &self.texts {
            [one, other] if one == first && other == second => Some(self.verdict.clone()),
            [one, other] if one == second && other == first => Some(self.verdict.mirrored()),
            _ => None,
        }
    }
}

/// The iterations from 1 of which a folder has verdicts, in order.
pub fn judged_iterations(folder: &Path) -> Vec<u32> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let number = |name: std::ffi::OsString| name.to_str()?.strip_prefix("iteration-")?.parse().ok();
    let mut numbers: Vec<u32> = names.filter_map(number).collect();
    numbers.retain(|&number| number > 0 && iteration_dir(folder, number).join("verdicts.jsonl").is_file());
    numbers.sort_unstable();
    numbers
}

/// The verdicts of `folder` on an iteration; the answers are those of `folder` where it has some, and else
/// those of `run`.
pub(crate) fn read(folder: &Path, run: &Path, iteration: u32) -> Result<Vec<Judgment>, AuditError> {
    let verdicts: Vec<VerdictRecord> =
        read_journal(&iteration_dir(folder, iteration).join("verdicts.jsonl"))?;
    let own = iteration_dir(folder, iteration).join("responses.jsonl");
    let path = if own.is_file() { own } else { iteration_dir(run, iteration).join("responses.jsonl") };
    let answers = read_answers(&path)?;
    let judgment = |record: VerdictRecord| {
        let answers = answers.get(&record.sample);
        let answer = |index: usize| answers?.get(index).cloned();
        let [first, second] = record.compared;
        match (answer(first), answer(second)) {
            (Some((first, one)), Some((second, other))) => {
                let VerdictRecord { sample, verdict, oracle, .. } = record;
                Ok(Judgment { sample, texts: [first, second], tokens: [one, other], verdict, oracle })
            }
            _ => {
                let (run, sample) = (run.to_owned(), record.sample.to_string());
                Err(AuditError::NoAnswers { run, iteration, sample })
            }
        }
    };
    verdicts.into_iter().map(judgment).collect()
}

/// The texts of a journal of responses and their lengths in tokens, without reasoning; tokens and log-probs are not held in memory.
fn read_answers(path: &Path) -> Result<HashMap<SampleId, Vec<(String, usize)>>, AuditError> {
    #[derive(Deserialize)]
    struct AnswersLine {
        sample: SampleId,
        responses: Vec<CountedResponse>,
    }
    let mut answers = HashMap::new();
    scan_journal(path, |line: AnswersLine| {
        let lengths = line.responses.into_iter().map(|answer| {
            let tokens = answer.answer_tokens();
            (answer.text, tokens)
        });
        answers.insert(line.sample, lengths.collect());
    })?;
    Ok(answers)
}
