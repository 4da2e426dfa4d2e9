//! `isr audit`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use isr_dpo::{
    Agreement, AuditConfig, AuditError, Audited, JudgeAudit, audit_dir, audit_run, open_rejudging,
};
use serde_json::json;

use super::ConfigArgs;
use super::failure::Unusable;
use super::output::{aligned, print, print_line};
use super::session::{Session, for_the_process};

/// Version of what --json prints.
const SCHEMA: u32 = 1;

const COLUMNS: &str = "\
Columns, where there is anything to fill them:
  judge        `run` is the run's own; others are named as their folders; an oracle knows the facts
  ties         verdicts that prefer neither answer; in no other column
  failed       cases without a verdict: replies that cannot be read, and the like
  facts        share of verdicts for the answer that is better by the facts, of those that decide;
               kappa is Cohen's, with its 95% interval (of 20 pairs and more)
  run's judge  the same with the verdicts of the run's own judge on the same answers; what it lacks
               to 1 is how often verdicts flip
  people       the same with annotations.jsonl, each person on each sample; ties left out
  both orders  share of the cases asked in both orders of showing whose votes do not take both sides
  shown first  share of votes for the answer that was shown first
  longer       share of verdicts for the answer of more tokens
  slope        log-odds that a word more is worth, with its standard error: logistic regression
               of the choice on the difference in words
  seconds      wall-clock time of judging";

/// Measure the judges of runs
///
/// Reads what the runs have written, for each iteration and judge. A run's own judge is compared with the
/// facts, where its data and evaluator know them, with people (RUN/annotations.jsonl), and with other judges
/// of the same answers: those below RUN/audits, and those of --against.
///
/// With --config, a run's answers are first judged again: by another judge, or by one that is shown a blank
/// or another video, or no context. The model is the one that judged then. What was judged before is not
/// judged again.
#[derive(Args)]
#[command(after_long_help = COLUMNS)]
pub(super) struct AuditArgs {
    /// Run directories
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// A folder with another judge's `iteration-NN/verdicts.jsonl` on the same answers, such as another run;
    /// may be given again
    #[arg(long, value_name = "DIR")]
    against: Vec<PathBuf>,
    /// Judge the answers of one run again, as this file says: `name`, `judge`, `video`, `context`,
    /// `iterations`, `samples`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Change a setting of --config: `-s video=blank`; may be given again
    #[arg(short, long = "set", value_name = "KEY=VALUE", requires = "config")]
    set: Vec<String>,
    /// Where the new verdicts go [default: RUN/audits/NAME, as the config's `name`]
    #[arg(short, long, value_name = "DIR", requires = "config")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl AuditArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let mut others = self.against.clone();
        others.extend(self.judge_again(session)?);
        let audit = |run: &PathBuf| session.block_on(audit_run(run, &others));
        let audited = self.runs.iter().map(audit).collect::<Result<Vec<_>, _>>().map_err(report)?;
        if self.json {
            return print_line(json!({ "schema": SCHEMA, "runs": audited }));
        }
        let shown: Vec<String> = audited.iter().map(shown).collect();
        print(shown.join("\n"))
    }
}

impl AuditArgs {
    /// Judges again where that is wanted; returns the folder of verdicts, unless it is found by itself.
    fn judge_again(&self, session: &Session) -> Result<Option<PathBuf>> {
        let Some(file) = &self.config else { return Ok(None) };
        let [run] = self.runs.as_slice() else {
            let message = "--config judges the answers of one run; name one RUN".to_owned();
            return Err(Unusable { message, hint: None }.into());
        };
        let config = ConfigArgs { config: file.clone(), set: self.set.clone() }.load::<AuditConfig>()?;
        let beside = audit_dir(run, &config.value);
        let out = self.out.clone().unwrap_or_else(|| beside.clone());
        let cancel = session.cancelled_by_signals();
        session.progress.line("loading models");
        let observers = vec![Arc::new(session.progress.clone()) as Arc<_>];
        let judging = for_the_process(open_rejudging(config, run, &out, observers, cancel)?);
        session.block_on(judging.run()).map_err(report)?;
        Ok(Some(out).filter(|out| *out != beside))
    }
}

/// What the arguments say cannot be used; the rest failed.
fn report(error: AuditError) -> anyhow::Error {
    match error {
        AuditError::Store(error) => error.into(),
        AuditError::NoAnswers { .. } => error.into(),
        _ => Unusable { message: error.to_string(), hint: None }.into(),
    }
}

/// A run's table, and what there is to say of it.
fn shown(audited: &Audited) -> String {
    let judges = &audited.audit.judges;
    let mut text = format!("{}\n{}", audited.audit.run.display(), table(judges));
    if let Some(reason) = &audited.no_facts {
        text.push_str(&format!("no facts: {reason}\n"));
    }
    for judge in judges.iter().filter(|judge| judge.failures.count > 0) {
        let reasons = judge.failures.reasons.iter().max_by_key(|(_, count)| **count);
        if let Some((reason, count)) = reasons {
            let JudgeAudit { iteration, judge, .. } = judge;
            text.push_str(&format!(
                "failed in iteration {iteration} ({judge}), {count} of them: {reason}\n"
            ));
        }
    }
    text
}

/// A column's name, and its cell of a row.
type Column = (&'static str, fn(&JudgeAudit) -> Option<String>);

const TABLE: [Column; 16] = [
    ("iteration", |judge| Some(judge.iteration.to_string())),
    ("judge", |judge| Some(format!("{}{}", judge.judge, if judge.oracle { " (oracle)" } else { "" }))),
    ("verdicts", |judge| Some(judge.verdicts.to_string())),
    ("ties", |judge| Some(judge.ties.to_string())),
    ("failed", |judge| Some(judge.failures.count.to_string())),
    ("facts", |judge| agreed(judge.truth.as_ref())),
    ("facts kappa", |judge| kappa(judge.truth.as_ref())),
    ("run's judge", |judge| agreed(judge.run_judge.as_ref())),
    ("run's kappa", |judge| kappa(judge.run_judge.as_ref())),
    ("people", |judge| agreed(judge.people.as_ref())),
    ("people kappa", |judge| kappa(judge.people.as_ref())),
    ("both orders", |judge| judge.position.consistent.map(decimal)),
    ("shown first", |judge| judge.position.first_shown.map(decimal)),
    ("longer", |judge| judge.length.longer_preferred.map(decimal)),
    ("slope", |judge| judge.length.slope.map(|it| format!("{:.3} ± {:.3}", it.per_word, it.error))),
    ("seconds", |judge| judge.seconds.map(|seconds| format!("{seconds:.1}"))),
];

/// One row an iteration and judge; columns in which no row has anything are left out.
fn table(judges: &[JudgeAudit]) -> String {
    let filled = TABLE.iter().filter(|(_, cell)| judges.iter().any(|judge| cell(judge).is_some()));
    let columns: Vec<&Column> = filled.collect();
    let head = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let row =
        |judge: &JudgeAudit| columns.iter().map(|(_, cell)| cell(judge).unwrap_or_default()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(judges.iter().map(row)).collect();
    aligned(&rows)
}

fn agreed(agreement: Option<&Agreement>) -> Option<String> {
    let Agreement { agree, n, .. } = agreement?;
    Some(agree.map_or_else(|| "of 0".to_owned(), |agree| format!("{} of {n}", decimal(agree))))
}

fn kappa(agreement: Option<&Agreement>) -> Option<String> {
    let Agreement { kappa, interval, .. } = agreement?;
    let interval = interval.map_or_else(String::new, |[low, high]| format!(" [{low:.2}, {high:.2}]"));
    kappa.map(|kappa| format!("{kappa:.2}{interval}"))
}

fn decimal(value: f64) -> String {
    format!("{value:.3}")
}
