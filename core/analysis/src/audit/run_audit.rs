//! Audit of a run, by iteration and judge.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use isr_api::{Choice, SampleId};
use isr_run::store::iteration_dir;
use serde::Serialize;

use crate::audit::agreement::Agreement;
use crate::audit::error::AuditError;
use crate::audit::failures::{self, Failures};
use crate::audit::judgments::{self, Judgment};
use crate::audit::length::Length;
use crate::audit::people::People;
use crate::audit::position::Position;

/// Callback that returns the quality of a response to a sample by the facts; higher is better
/// ([`isr_api::Assessment::quality`]). `None` where it is unknown.
pub type TruthSource<'a> = dyn Fn(&SampleId, &str) -> Option<f64> + 'a;

/// Audit of all judges of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunAudit {
    /// Run directory.
    pub run: PathBuf,
    /// One entry per iteration and judge: the run's own, then those below `audits/`, then those named by the caller.
    pub judges: Vec<JudgeAudit>,
}

/// Audit of one judge in one iteration.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JudgeAudit {
    /// The iteration, from 1.
    pub iteration: u32,
    /// Name of the judge: `run` for the run's own, else the name of its folder.
    pub judge: String,
    /// Whether the judge is an oracle, which knows the facts.
    pub oracle: bool,
    /// Number of verdicts.
    pub verdicts: usize,
    /// Number of ties among them ([`Choice::of_probability`]).
    pub ties: usize,
    /// Cases that the judge failed on.
    pub failures: Failures,
    /// Agreement with the facts; null where they are unknown.
    pub truth: Option<Agreement>,
    /// Agreement with the run's own judge on the same answers; null for that judge itself.
    pub run_judge: Option<Agreement>,
    /// Agreement with human annotators, each on each sample; null without annotations.
    pub people: Option<Agreement>,
    /// Position bias.
    pub position: Position,
    /// Length bias.
    pub length: Length,
    /// Wall-clock seconds of the judge stage; null where not recorded.
    pub seconds: Option<f64>,
}

/// Name of the run's own judge.
const OWN: &str = "run";

/// Audits the run's own judge, those below `RUN/audits/`, and those with verdicts in the folders `others`.
///
/// # Errors
/// [`AuditError::NoVerdicts`] for a folder without verdicts, [`AuditError::NoAnswers`] for verdicts whose responses are missing,
/// [`AuditError::OtherAnswers`] for a folder with no verdict on the run's responses, [`AuditError::Store`] for files that
/// cannot be read.
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
    // A folder below `audits/` that has nothing to say of this run does not stop the audit; one that was named does.
    for folder in audits_of(run) {
        judges.extend(case.of_other(&folder)?);
    }
    for folder in others {
        let found = case.of_other(folder)?;
        if found.is_empty() {
            return Err(AuditError::OtherAnswers { run: run.to_owned(), other: folder.clone() });
        }
        judges.extend(found);
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

/// Inputs of the audit shared by all judges of a run.
struct Case<'a> {
    run: &'a Path,
    truth: &'a TruthSource<'a>,
    people: People,
}

impl Case<'_> {
    /// Audits another judge in the iterations that it judged; empty for verdicts on other answers alone.
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
            let theirs = judgments::read(folder, self.run, iteration)?;
            // Without any verdict the judge failed on every case: that is a row. Verdicts on other answers are none.
            let failed = theirs.is_empty();
            let pairs = beside(&own, theirs);
            if pairs.is_empty() && !failed {
                continue;
            }
            let (theirs, choices): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            let mut figures = self.figures(folder, &name, iteration, &theirs)?;
            let both = choices.into_iter().zip(theirs.iter().map(Judgment::choice));
            figures.run_judge = Some(Agreement::of(both, &stream(&name, iteration, OWN)));
            judges.push(figures);
        }
        Ok(judges)
    }

    /// Audits the verdicts in `folder`, without agreement with the run's own judge.
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
            ties: judgments.iter().filter(|judgment| judgment.choice() == Choice::Tie).count(),
            failures: Failures::read(&iteration_dir(folder, iteration), judgments.len())?,
            truth,
            run_judge: None,
            people,
            position: Position::of(verdicts),
            length: Length::of(judgments.iter().map(|it| (it.excess(), it.choice()))),
            seconds: failures::seconds(folder, iteration)?,
        })
    }

    /// The better response by the facts, if they are known for both.
    fn better(&self, judgment: &Judgment) -> Option<Choice> {
        let quality = |text: &str| (self.truth)(&judgment.sample, text);
        let [first, second] = &judgment.texts;
        Some(Choice::of_difference(quality(first)? - quality(second)?))
    }
}

/// Name of the random stream of an interval.
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
