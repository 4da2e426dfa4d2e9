//! The audit of a run: every figure, for each iteration and judge.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use isr_api::SampleId;
use isr_api::records::Choice;
use isr_run::store::iteration_dir;
use serde::Serialize;

use crate::audit::agreement::Agreement;
use crate::audit::error::AuditError;
use crate::audit::failures::{self, Failures};
use crate::audit::judgments::{self, Judgment};
use crate::audit::length::Length;
use crate::audit::people::People;
use crate::audit::position::Position;

/// How good an answer to a sample is by the facts, larger is better
/// ([`isr_api::Assessment::quality`]); `None` where nothing is known of it.
pub type TruthSource<'a> = dyn Fn(&SampleId, &str) -> Option<f64> + 'a;

/// All judges of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunAudit {
    /// The run's folder.
    pub run: PathBuf,
    /// One entry for each iteration and judge: the run's own first, then those below `audits/`, then those
    /// that were named.
    pub judges: Vec<JudgeAudit>,
}

/// What one judge did in one iteration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeAudit {
    /// The iteration, from 1.
    pub iteration: u32,
    /// The judge: `run` is the run's own, any other is named as its folder.
    pub judge: String,
    /// Whether it knows what is true.
    pub oracle: bool,
    /// Verdicts given.
    pub verdicts: usize,
    /// Verdicts of exactly one half, which prefer neither answer.
    pub undecided: usize,
    /// Cases without a verdict.
    pub failures: Failures,
    /// Agreement with the facts; null where none are known.
    pub truth: Option<Agreement>,
    /// Agreement with the run's own judge on the same answers; null for that judge itself.
    pub run_judge: Option<Agreement>,
    /// Agreement with people, each of them on each sample; null where nobody was asked.
    pub people: Option<Agreement>,
    /// What the order of showing does.
    pub position: Position,
    /// What length does.
    pub length: Length,
    /// Wall-clock seconds of the stage; null where they were not recorded.
    pub seconds: Option<f64>,
}

/// The name of the run's own judge.
const OWN: &str = "run";

/// Audits a run's own judge, those below `RUN/audits/`, and those whose verdicts lie in the folders `others`.
///
/// # Errors
/// [`AuditError::NoVerdicts`] for what is no run, [`AuditError::OtherAnswers`] for another judge who judged
/// other answers, [`AuditError::Store`] for files that cannot be read.
pub fn audit(run: &Path, others: &[PathBuf], truth: &TruthSource<'_>) -> Result<RunAudit, AuditError> {
    let iterations = judgments::judged_iterations(run);
    if iterations.is_empty() {
        return Err(AuditError::NoVerdicts { path: run.to_owned() });
    }
    let case = Case { run, truth, people: People::read(run)? };
    let mut judges = Vec::new();
    for &iteration in &iterations {
        let own = judgments::read(run, run, iteration)?;
        judges.push(case.figures(run, OWN, iteration, &own)?);
    }
    for folder in audits_of(run).iter().chain(others) {
        judges.extend(case.of_other(folder)?);
    }
    judges.sort_by_key(|judge| judge.iteration);
    Ok(RunAudit { run: run.to_owned(), judges })
}

/// The folders below `RUN/audits/` that hold verdicts, by name.
fn audits_of(run: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(run.join("audits")).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    folders.retain(|folder| !judgments::judged_iterations(folder).is_empty());
    folders.sort();
    folders
}

/// What all judges of a run are measured by.
struct Case<'a> {
    run: &'a Path,
    truth: &'a TruthSource<'a>,
    people: People,
}

impl Case<'_> {
    /// Another judge, in the iterations that it judged.
    fn of_other(&self, folder: &Path) -> Result<Vec<JudgeAudit>, AuditError> {
        let judged = judgments::judged_iterations(folder);
        if judged.is_empty() {
            return Err(AuditError::NoVerdicts { path: folder.to_owned() });
        }
        let name = name_of(folder);
        let mut judges = Vec::new();
        let common = judgments::judged_iterations(self.run);
        for iteration in common.into_iter().filter(|iteration| judged.contains(iteration)) {
            let own = judgments::read(self.run, self.run, iteration)?;
            let pairs = beside(&own, judgments::read(folder, self.run, iteration)?);
            if pairs.is_empty() {
                continue;
            }
            let (theirs, choices): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let mut figures = self.figures(folder, &name, iteration, &theirs)?;
            let both = choices.into_iter().zip(theirs.iter().map(Judgment::choice));
            figures.run_judge = Some(Agreement::of(both, &stream(&name, iteration, OWN)));
            judges.push(figures);
        }
        if judges.is_empty() {
            return Err(AuditError::OtherAnswers { run: self.run.to_owned(), other: folder.to_owned() });
        }
        Ok(judges)
    }

    /// The figures of verdicts that lie in `folder`, without those beside the run's own judge.
    fn figures(
        &self,
        folder: &Path,
        name: &str,
        iteration: u32,
        judgments: &[Judgment],
    ) -> Result<JudgeAudit, AuditError> {
        let known: Vec<_> =
            judgments.iter().filter_map(|it| Some((it.choice(), self.better(it)?))).collect();
        let truth = (!known.is_empty())
            .then(|| Agreement::of(known.into_iter(), &stream(name, iteration, "truth")));
        let people = self.people.saw(iteration).then(|| {
            let of = |it: &Judgment| self.people.of(iteration, &it.sample).to_vec();
            let pairs =
                judgments.iter().flat_map(|it| of(it).into_iter().map(|choice| (it.choice(), choice)));
            Agreement::of(pairs, &stream(name, iteration, "people"))
        });
        let verdicts = judgments.iter().map(|judgment| &judgment.verdict);
        Ok(JudgeAudit {
            iteration,
            judge: name.to_owned(),
            oracle: judgments.iter().any(|judgment| judgment.oracle),
            verdicts: judgments.len(),
            undecided: judgments.iter().filter(|judgment| judgment.choice() == Choice::Tie).count(),
            failures: Failures::read(&iteration_dir(folder, iteration), judgments.len())?,
            truth,
            run_judge: None,
            people,
            position: Position::of(verdicts),
            length: Length::of(judgments.iter().map(|it| (it.excess_words(), it.choice()))),
            seconds: failures::seconds(folder, iteration)?,
        })
    }

    /// The better answer by the facts, where they are known of both.
    fn better(&self, judgment: &Judgment) -> Option<Choice> {
        let quality = |text: &str| (self.truth)(&judgment.sample, text);
        let [first, second] = &judgment.texts;
        Some(Choice::of_difference(quality(first)? - quality(second)?))
    }
}

/// The name of the draws of an interval.
fn stream(judge: &str, iteration: u32, with: &str) -> String {
    format!("{judge}/{iteration}/{with}")
}

fn name_of(folder: &Path) -> String {
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    real.file_name()
        .map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Another judge's verdict, in the run's order of answers, and what the run's judge chose.
type Beside = (Judgment, Choice);

/// Of another judge's verdicts, those on the answers that the run compared.
fn beside(own: &[Judgment], theirs: Vec<Judgment>) -> Vec<Beside> {
    let by_sample: HashMap<_, _> = own.iter().map(|own| (&own.sample, own)).collect();
    let join = |their: Judgment| {
        let own = by_sample.get(&their.sample)?;
        let verdict = their.verdict_on(&own.texts)?;
        Some((Judgment { verdict, oracle: their.oracle, ..(*own).clone() }, own.choice()))
    };
    theirs.into_iter().filter_map(join).collect()
}
