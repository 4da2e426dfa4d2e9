//! Reading of a run directory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use isr_api::records::{EvaluationRecord, IterationSummary, QuarantineRecord, Summary};
use isr_run::store::iteration_dir;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::audit::{AuditError, JudgeAudit};
use crate::report::FactSource;
use crate::report::error::ReportError;
use crate::report::journal::{self, HeldOutLine, StepLine};
use crate::report::judged_pairs::{self, JudgedPairs};

/// The format of `summary.json` that this crate reads.
const SCHEMA: u32 = 1;

/// Data of one run.
pub(crate) struct Run {
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
    /// Fingerprint of the resolved config; `None` before the first iteration is complete.
    pub(crate) fingerprint: Option<String>,
    pub(crate) base: Option<EvaluationRecord>,
    pub(crate) summaries: Vec<IterationSummary>,
    pub(crate) config: Option<String>,
    pub(crate) provenance: Option<serde_json::Value>,
    /// One for each folder `iteration-NN`, complete or not, in order; 0 is the starting model's.
    pub(crate) journals: Vec<Journals>,
    /// The judges; none before the first verdict.
    pub(crate) judges: Vec<JudgeAudit>,
    /// Held-out answers of the starting model, and of the last model that was measured.
    pub(crate) held_out: Option<HeldOut>,
}

/// The journals of one iteration.
pub(crate) struct Journals {
    pub(crate) iteration: u32,
    pub(crate) complete: bool,
    pub(crate) steps: Vec<StepLine>,
    pub(crate) quarantine: Vec<QuarantineRecord>,
    pub(crate) judged: JudgedPairs,
}

/// Held-out answers before and after.
pub(crate) struct HeldOut {
    pub(crate) base: Vec<HeldOutLine>,
    pub(crate) last: Vec<HeldOutLine>,
    pub(crate) iteration: u32,
}

impl Run {
    /// Reads a run directory.
    pub(crate) fn read(dir: &Path, facts: &FactSource<'_>) -> Result<Self, ReportError> {
        let config = read_text(&dir.join("config.toml"))?;
        let summary = read_summary(&dir.join("summary.json"))?;
        if config.is_none() && summary.is_none() {
            return Err(ReportError::NotARun { path: dir.to_owned() });
        }
        let (name, fingerprint, base, summaries) = match summary {
            Some(summary) => {
                (summary.run, Some(summary.config.to_string()), summary.base, summary.iterations)
            }
            None => (folder_name(dir), None, None, Vec::new()),
        };
        let base = match base {
            Some(base) => Some(base),
            None => read_json(&iteration_dir(dir, 0).join("evaluation.json"))?,
        };
        Ok(Self {
            name,
            fingerprint,
            base,
            config,
            provenance: read_json(&dir.join("provenance.json"))?,
            journals: read_iterations(dir, &summaries)?,
            judges: read_judges(dir, facts)?,
            held_out: read_held_out(dir, &summaries)?,
            summaries,
            dir: dir.to_owned(),
        })
    }

    /// The last complete iteration that was measured, with its figures.
    pub(crate) fn last_evaluation(&self) -> Option<(u32, &EvaluationRecord)> {
        self.summaries.iter().rev().find_map(|row| Some((row.iteration, row.evaluation.as_ref()?)))
    }

    /// Whether it was trained on the verdicts of an oracle.
    pub(crate) fn knows_truth(&self) -> bool {
        self.summaries.iter().any(|row| row.judge.oracle)
    }

    /// The journals of an iteration.
    pub(crate) fn journals_of(&self, iteration: u32) -> Option<&Journals> {
        self.journals.iter().find(|journals| journals.iteration == iteration)
    }
}

/// Adds the folder to the names of runs that share one, such as the seeds of an arm.
pub(crate) fn tell_apart(runs: &mut [Run]) {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for run in runs {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = format!("{} ({})", run.name, run.dir.display());
        }
    }
}

fn read_iterations(dir: &Path, summaries: &[IterationSummary]) -> Result<Vec<Journals>, ReportError> {
    iteration_numbers(dir)?.into_iter().map(|number| read_journals(dir, number, summaries)).collect()
}

fn iteration_numbers(dir: &Path) -> Result<Vec<u32>, ReportError> {
    let entries = fs::read_dir(dir).map_err(|error| ReportError::io("read", dir, error))?;
    let mut numbers: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("iteration-")?.parse().ok())
        .filter(|&number| iteration_dir(dir, number).is_dir())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_journals(
    dir: &Path,
    iteration: u32,
    summaries: &[IterationSummary],
) -> Result<Journals, ReportError> {
    let folder = iteration_dir(dir, iteration);
    let complete = iteration == 0 || summaries.iter().any(|row| row.iteration == iteration);
    Ok(Journals {
        iteration,
        complete,
        steps: journal::read_lines(&folder.join("metrics.jsonl"))?,
        quarantine: journal::read_lines(&folder.join("quarantine.jsonl"))?,
        judged: judged_pairs::read(dir, iteration)?,
    })
}

fn read_judges(dir: &Path, facts: &FactSource<'_>) -> Result<Vec<JudgeAudit>, ReportError> {
    match crate::audit::audit(dir, &[], &|sample, answer| facts(dir, sample, answer)) {
        Ok(audit) => Ok(audit.judges),
        // A run that has not come to that, or whose responses are gone: the rest can be reported.
        Err(AuditError::NoVerdicts { .. } | AuditError::NoAnswers { .. }) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn read_held_out(dir: &Path, summaries: &[IterationSummary]) -> Result<Option<HeldOut>, ReportError> {
    let Some(last) = summaries.iter().rev().find(|row| row.evaluation.is_some()) else {
        return Ok(None);
    };
    let read = |iteration| journal::read_lines(&iteration_dir(dir, iteration).join("evaluation.jsonl"));
    let held_out = HeldOut { base: read(0)?, last: read(last.iteration)?, iteration: last.iteration };
    Ok(Some(held_out))
}

fn read_summary(path: &Path) -> Result<Option<Summary>, ReportError> {
    #[derive(Deserialize)]
    struct Version {
        schema: u64,
    }
    let Some(Version { schema }) = read_json(path)? else { return Ok(None) };
    if schema != u64::from(SCHEMA) {
        return Err(ReportError::UnknownSchema { path: path.to_owned(), found: schema, known: SCHEMA });
    }
    read_json(path)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let parsed = serde_json::from_str(&text);
    parsed.map(Some).map_err(|error| ReportError::damaged(path, error.line(), error))
}

fn read_text(path: &Path) -> Result<Option<String>, ReportError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(ReportError::io("read", path, error)),
    }
}

fn folder_name(dir: &Path) -> String {
    let folder = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    folder.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned())
}
