//! Execution of a sweep. Each run is a process of its own, so that a crash affects no other run.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use isr_api::BuildContext;
use isr_run::store::{lock_dir, write_atomic};
use tokio_util::sync::CancellationToken;

use crate::claims;
use crate::error::SweepError;
use crate::file::Resources;
use crate::halving;
use crate::outcome::Outcome;
use crate::plan::{Member, Plan};
use crate::scheduler::{Job, JobEnd, JobEvent, Scheduler};

/// Number of log lines quoted for a failed run.
const TAIL: usize = 12;

/// Progress of a sweep.
#[non_exhaustive]
pub enum Progress<'a> {
    /// A round begins.
    Begins {
        /// Runs with work left.
        left: usize,
        /// All runs.
        of: usize,
    },
    /// A run's process started.
    Started(&'a Member),
    /// A run reached the iterations of this round.
    Done(&'a Member),
    /// A run failed, with its exit status and the end of its log.
    Failed(&'a Member, &'a str),
    /// Successive halving stopped an arm.
    Stopped {
        /// Name of the arm.
        arm: &'a str,
        /// Iteration of the rung.
        after: u32,
    },
}

/// Writes the claims into the sweep's folder, then runs all incomplete runs with `scheduler`. Complete runs are not touched. `program` is the path of the `isr` binary.
/// After `cancel`, returns the outcome so far.
///
/// # Errors
/// [`SweepError::OtherArm`] before anything starts, [`SweepError::Io`] where the sweep's folder cannot be written,
/// [`SweepError::Schedule`] where the scheduler cannot continue. A failed run is part of the outcome.
pub async fn run(
    plan: &Plan,
    scheduler: &dyn Scheduler,
    program: &Path,
    watch: &mut (dyn FnMut(Progress<'_>) + Send),
    cancel: &CancellationToken,
) -> Result<Outcome, SweepError> {
    fs::create_dir_all(&plan.dir).map_err(SweepError::io("create", &plan.dir))?;
    let _lock = lock_dir(&plan.dir)?;
    plan.check_earlier_runs()?;
    claims::state(plan)?;
    prepare_data(plan, cancel).await;
    let mut outcome = Outcome::default();
    for target in halving::targets(plan) {
        step(plan, target, &mut outcome, scheduler, program, watch, cancel).await?;
        if cancel.is_cancelled() {
            return Ok(outcome);
        }
        for (arm, after) in halving::stopped(plan, target, &outcome)? {
            watch(Progress::Stopped { arm: &plan.arms[arm].name, after });
            outcome.stopped.insert(arm, after);
        }
    }
    Ok(outcome)
}

/// Continues all remaining runs up to iteration `target`, or to their end.
async fn step(
    plan: &Plan,
    target: Option<u32>,
    outcome: &mut Outcome,
    scheduler: &dyn Scheduler,
    program: &Path,
    watch: &mut (dyn FnMut(Progress<'_>) + Send),
    cancel: &CancellationToken,
) -> Result<(), SweepError> {
    let (mut jobs, mut places) = (Vec::new(), HashMap::new());
    for (place, member) in plan.members.iter().enumerate() {
        let wanted = target.map_or(member.iterations(), |target| target.min(member.iterations()));
        let is_out = outcome.stopped.contains_key(&member.arm) || outcome.failed.contains_key(&place);
        // The report is the last that a run writes.
        let has_report = member.dir.join("report.html").exists();
        if is_out || (member.complete()? >= wanted && has_report) {
            continue;
        }
        let job = job(plan, member, wanted, program)?;
        places.insert(job.name.clone(), place);
        jobs.push(job);
    }
    watch(Progress::Begins { left: jobs.len(), of: plan.members.len() });
    let mut on_event = |job: &Job, event: JobEvent| {
        let Some(&place) = places.get(&job.name) else { return };
        let member = &plan.members[place];
        match event {
            JobEvent::Started => watch(Progress::Started(member)),
            JobEvent::Ended(JobEnd::Done) => watch(Progress::Done(member)),
            JobEvent::Ended(JobEnd::Cancelled) => {}
            JobEvent::Ended(JobEnd::Failed { status }) => {
                let failure = failure(&status, &job.log);
                watch(Progress::Failed(member, &failure));
                outcome.failed.insert(place, failure);
            }
        }
    };
    scheduler.run(jobs, &mut on_event, cancel.clone()).await?;
    Ok(())
}

/// The job that starts or continues a run.
fn job(plan: &Plan, member: &Member, iterations: u32, program: &Path) -> Result<Job, SweepError> {
    fs::create_dir_all(&member.dir).map_err(SweepError::io("create", &member.dir))?;
    let config = member.dir.join("config.toml");
    write_atomic(&config, member.toml.as_bytes())?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(SweepError::io("find", path));
    let mut command = vec![text(program), "run".to_owned(), text(&config)];
    command.extend(["--out".to_owned(), text(&member.dir)]);
    if let Some(stages) = plan.stages() {
        command.extend(["--stage-cache".to_owned(), text(&stages)]);
    }
    let Resources { cpus, gpus, processes } = plan.arms[member.arm].resources;
    if processes > 1 {
        command.extend(["--processes".to_owned(), processes.to_string()]);
    }
    if iterations < member.iterations() {
        command.extend(["-s".to_owned(), format!("loop.iterations={iterations}")]);
    }
    Ok(Job {
        name: member.config.value.name.clone(),
        command,
        dir: absolute(Path::new("."))?,
        log: absolute(&member.log())?,
        env: Vec::new(),
        cpus,
        gpus,
        processes,
    })
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Exit status and last log lines of a failed run.
fn failure(status: &str, log: &PathBuf) -> String {
    let said = fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.trim_end().lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    format!("{status}; {}:\n{tail}", log.display())
}

/// Prepares each distinct data set once. A failure is logged only: the run meets it again and reports it.
async fn prepare_data(plan: &Plan, cancel: &CancellationToken) {
    for member in plan.data_sets() {
        let (data, settings) = (&member.config.value.data, &member.config.settings);
        let Ok(source) = data.build(&BuildContext { config: settings.clone() }) else { continue };
        let prepared = tokio::select! {
            () = cancel.cancelled() => return,
            prepared = source.prepare() => prepared,
        };
        if let Err(error) = prepared {
            tracing::warn!(arm = plan.arm(member), %error, "its data cannot be made");
        }
    }
}
