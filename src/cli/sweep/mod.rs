//! `isr sweep`.

mod tables;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::{Args, Subcommand};
use indicatif::HumanDuration;
use isr_api::Error;
use isr_sweep::scheduler::SchedulerConfig;
use isr_sweep::{
    Arm, ArmResult, ClaimResult, Forecast, Plan, Progress, Resources, Results, Seconds, SweepError,
    claims_note, results, run, write_results,
};

use self::tables::TablesArgs;
use super::failure::Unusable;
use super::output::{aligned, print, print_line};
use super::processes::require_single;
use super::session::Session;

/// Figures of the table that is printed, after the last iteration.
const FIGURES: [&str; 4] =
    ["greedy.accuracy", "greedy.hallucination", "greedy.response_tokens", "judge.agreement"];

/// Run many variants of a config over seeds, and compare them
///
/// Each arm, base and seed is a run of its own below OUT/arms. The same command continues a sweep that was cut;
/// runs that are complete are left as they are. A run that fails stops no other. Claims of the file are decided
/// at the end.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct SweepArgs {
    #[command(subcommand)]
    command: Option<SweepCommand>,
    /// The sweep file
    #[arg(required = true)]
    sweep: Option<PathBuf>,
    /// The sweep's folder [default: sweeps/NAME, as the file's `name`]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs at once on this machine [default: the file's `scheduler`]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
    /// Print arms, what they share, and the estimated time; nothing is run
    #[arg(long)]
    dry_run: bool,
}

#[derive(Subcommand)]
enum SweepCommand {
    Tables(TablesArgs),
}

impl SweepArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        match (&self.command, &self.sweep) {
            (Some(SweepCommand::Tables(args)), _) => args.execute(),
            (None, Some(sweep)) => self.run(sweep, session),
            // The parser lets neither be absent.
            (None, None) => Err(anyhow!("name a sweep file")),
        }
    }

    fn run(&self, sweep: &Path, session: &Session) -> Result<()> {
        require_single("isr sweep")?;
        refuse_environment()?;
        let plan = Plan::read(sweep, self.out.as_deref()).map_err(report)?;
        if self.dry_run {
            plan.check_earlier_runs().map_err(report)?;
            return print(described(&plan, &Forecast::of(&plan).map_err(report)?));
        }
        let state =
            std::path::absolute(plan.dir.join("scheduler")).context("cannot find the working folder")?;
        let scheduler = self.scheduler(&plan)?.open(&state)?;
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let (cancel, progress) = (session.cancelled_by_signals(), session.progress.clone());
        let mut watch = |event: Progress<'_>| {
            if let Some(line) = line(&plan, &event) {
                progress.line(line);
            }
        };
        let outcome = session
            .block_on(run(&plan, scheduler.as_ref(), &program, &mut watch, &cancel))
            .map_err(report)?;
        let results = results(&plan, &outcome).map_err(report)?;
        write_results(&results, &plan.dir).map_err(report)?;
        print(table(&results))?;
        print(claims(&results))?;
        print_line(format_args!("sweep   {}", plan.dir.display()))?;
        if cancel.is_cancelled() {
            return Err(Error::Cancelled.into());
        }
        match outcome.failed.len() {
            0 => Ok(()),
            count => Err(anyhow!(
                "{count} of {} runs failed; the same command tries them again",
                plan.members.len()
            )),
        }
    }

    fn scheduler(&self, plan: &Plan) -> Result<SchedulerConfig> {
        let mut settings = plan.file.scheduler.clone();
        match (&mut settings, self.jobs) {
            (SchedulerConfig::Local(local), Some(jobs)) => local.jobs = Some(jobs as usize),
            (_, None) => {}
            (_, Some(_)) => {
                let message =
                    "--jobs is for runs on this machine, and the sweep names another scheduler".to_owned();
                return Err(Unusable { message, hint: Some("leave out --jobs".to_owned()) }.into());
            }
        }
        Ok(settings)
    }
}

/// A run that is continued elsewhere, or later, has another environment.
fn refuse_environment() -> Result<()> {
    let mut names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    match names.find(|name| name.starts_with("ISR__")) {
        None => Ok(()),
        Some(name) => {
            let message = format!("{name} is set, and a sweep takes its settings from files alone");
            let hint = Some("unset it, and write what it sets into the sweep's `set`".to_owned());
            Err(Unusable { message, hint }.into())
        }
    }
}

/// What the file says cannot be used; the rest failed.
fn report(error: SweepError) -> anyhow::Error {
    match error {
        SweepError::Core(error) => error.into(),
        SweepError::Unusable(_) | SweepError::OtherArm { .. } => Error::Config(error.to_string()).into(),
        error => error.into(),
    }
}

fn line(plan: &Plan, event: &Progress<'_>) -> Option<String> {
    let name = |member: &isr_sweep::Member| plan.run_name(member);
    Some(match event {
        Progress::Begins { left: 0, of } => format!("all {of} runs are complete"),
        Progress::Begins { left, of } => format!("{left} of {of} runs have work left"),
        Progress::Started(member) => format!("{}: started", name(member)),
        Progress::Done(member) => format!("{}: done", name(member)),
        Progress::Failed(member, how) => format!("{}: failed: {how}", name(member)),
        Progress::Stopped { arm, after } => {
            format!("{arm}: stopped after iteration {after}, as others are better")
        }
        _ => return None,
    })
}

/// What `--dry-run` prints.
fn described(plan: &Plan, forecast: &Forecast) -> String {
    let (arms, seeds) = (plan.arms.len(), plan.file.seeds.len());
    let (dir, runs) = (plan.dir.display(), plan.members.len());
    let bases = match plan.file.bases.len() {
        0 => String::new(),
        count => format!(" x {count} bases"),
    };
    let mut text =
        format!("sweep `{}`: {arms} arms{bases} x {seeds} seeds = {runs} runs in {dir}\n", plan.name);
    for arm in &plan.arms {
        let mark = if plan.file.baseline.as_ref() == Some(&arm.name) { " (baseline)" } else { "" };
        text.push_str(&format!("  {}{mark}{}\n", arm.name, needs(arm)));
        for (path, value) in &arm.set {
            text.push_str(&format!("    {path} = {}\n", value.to_string().trim_end()));
        }
    }
    for base in &plan.file.bases {
        text.push_str(&format!("  base {}\n", base.name));
        for (path, value) in &base.set {
            text.push_str(&format!("    {path} = {}\n", value.to_string().trim_end()));
        }
    }
    for claim in &plan.claims {
        text.push_str(&format!("  claim {:?}\n    {}\n", claim.name, claim.stated()));
    }
    if let Some(halving) = &plan.file.halving {
        let (rungs, metric) = (&halving.rungs, &halving.metric);
        text.push_str(&format!("arms may be stopped after iterations {rungs:?}, by {metric}\n"));
    }
    let data = match plan.data_sets().len() {
        1 => "the data is made once for all runs".to_owned(),
        count => format!("the data is made once for each of {count} settings of it"),
    };
    text.push_str(&format!(
        "{data}{}\n",
        if plan.file.share { "; visual features are shared" } else { "" }
    ));
    let (taken, needed) = forecast.taken_over();
    text.push_str(&format!("{taken} of {needed} stages are taken over from another arm\n"));
    let shared = forecast.stages.iter().filter(|stage| stage.computed < stage.needed);
    let mut rows = vec![["iteration", "stage", "needed", "computed"].map(str::to_owned).to_vec()];
    rows.extend(shared.map(|stage| {
        let counts = [stage.needed, stage.computed].map(|count| count.to_string());
        [vec![stage.iteration.to_string(), stage.stage.name().to_owned()], counts.to_vec()].concat()
    }));
    if rows.len() > 1 {
        text.push_str(&aligned(&rows));
    }
    match forecast.seconds {
        Some(Seconds { alone, shared, left }) => text.push_str(&format!(
            "time of runs one after the other: {} without sharing, {} with; {} left{}\n",
            time(alone),
            time(shared),
            time(left),
            if forecast.by_other_runs { " (by other runs of this model and data)" } else { "" }
        )),
        None => text.push_str(
            "time: unknown, until a run of this sweep, or below `runs` one of its model and data, was timed\n",
        ),
    }
    text
}

/// What each run of an arm takes, where that is more than a process and a core.
fn needs(arm: &Arm) -> String {
    let Resources { cpus, gpus, processes } = arm.resources;
    let shown = [(processes, "processes", 1), (cpus, "cores", 1), (gpus, "GPUs", 0)];
    let shown = shown.into_iter().filter(|(count, _, least)| count > least);
    let shown: Vec<String> = shown.map(|(count, what, _)| format!("{count} {what}")).collect();
    if shown.is_empty() { String::new() } else { format!(": {} each run", shown.join(", ")) }
}

fn time(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if seconds >= 120.0 => HumanDuration(duration).to_string(),
        _ => format!("{seconds:.1} s"),
    }
}

/// One row an arm: what came out after its last iteration.
fn table(results: &Results) -> String {
    let known = results.metrics();
    let figures: Vec<&str> = FIGURES.into_iter().filter(|name| known.contains(name)).collect();
    let head = ["arm", "runs", "iteration"].into_iter().chain(figures.iter().copied());
    let mut rows = vec![head.map(str::to_owned).collect::<Vec<_>>()];
    for arm in &results.arms {
        let complete = arm.runs.iter().filter(|run| run.error.is_none() && run.iterations > 0).count();
        let last = arm.metrics.values().flatten().map(|point| point.iteration).max();
        let fixed = [
            arm.name.clone(),
            format!("{complete}/{}", arm.runs.len()),
            last.map(|last| last.to_string()).unwrap_or_default(),
        ];
        rows.push(fixed.into_iter().chain(figures.iter().map(|name| cell(arm, name, last))).collect());
    }
    let intervals = results.arms.iter().flat_map(|arm| arm.metrics.values().flatten());
    let note = match intervals.clone().any(|point| point.estimate.interval.is_some()) {
        true => format!("in brackets: 95% intervals over {} (Student's t)\n", results.over()),
        false => String::new(),
    };
    format!("{}{note}", aligned(&rows))
}

/// Each claim with its verdict; empty without claims.
fn claims(results: &Results) -> String {
    let mut text = String::new();
    for claim in &results.claims {
        let ClaimResult {
            comparison,
            verdict,
            difference,
            interval,
            simultaneous_interval,
            p,
            adjusted_p,
            ..
        } = claim;
        text.push_str(&format!("{}: {}\n", verdict.words(), comparison.name));
        let mut parts = Vec::new();
        if let Some(difference) = difference {
            parts.push(format!("{difference:+.4}"));
        }
        let ends = [("95% interval", interval), ("simultaneous", simultaneous_interval)];
        let ends = ends.into_iter().filter_map(|(name, ends)| Some((name, (*ends)?)));
        parts.extend(ends.map(|(name, [low, high])| format!("{name} [{low:+.4}, {high:+.4}]")));
        parts.extend(
            [("p", p), ("adjusted p", adjusted_p)]
                .into_iter()
                .filter_map(|(name, p)| Some(format!("{name} {:.4}", (*p)?))),
        );
        text.push_str(&format!("  {}\n", comparison.stated()));
        if !parts.is_empty() {
            text.push_str(&format!("  {}\n", parts.join(", ")));
        }
        claim.remarks().iter().for_each(|remark| text.push_str(&format!("  {remark}\n")));
    }
    match claims_note(results) {
        note if note.is_empty() => text,
        note => format!("{text}{note}\n"),
    }
}

fn cell(arm: &ArmResult, metric: &str, last: Option<u32>) -> String {
    let points = arm.metrics.get(metric);
    let point = points.and_then(|points| points.iter().find(|point| Some(point.iteration) == last));
    let Some(estimate) = point.map(|point| &point.estimate) else { return String::new() };
    match estimate.interval {
        Some([low, high]) => format!("{:.3} [{low:.3}, {high:.3}]", estimate.mean),
        None => format!("{:.3}", estimate.mean),
    }
}
