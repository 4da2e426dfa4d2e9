//! Jobs and the scheduler trait.

use std::collections::HashSet;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::scheduler::SchedulerError;

/// An independent command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Name, unique within a call: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Program and arguments, not interpreted by a shell.
    pub command: Vec<String>,
    /// Working directory, absolute.
    pub dir: PathBuf,
    /// File to which standard output and error are appended, absolute. Its folder is created.
    pub log: PathBuf,
    /// Environment variables in addition to the inherited ones: the caller's, those that `sbatch` exports, or those of Ray's nodes.
    pub env: Vec<(String, String)>,
    /// CPU cores: reserved by the scheduler, and the number of threads of numerical libraries. 0 counts as 1. Floating-point
    /// results may depend on the number of threads, so keep it fixed within an experiment.
    pub cpus: u32,
    /// Number of GPUs.
    pub gpus: u32,
    /// Processes that the command starts, which divide the cores. 0 counts as 1.
    pub processes: u32,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// Exit status 0.
    Done,
    /// Any other end. The job may be run again.
    Failed {
        /// Human-readable status: `exit status: 3`, `TIMEOUT`, ...
        status: String,
    },
    /// Stopped or not started because of cancellation.
    Cancelled,
}

/// Event of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// The job started. Not reported for jobs of an earlier call.
    Started,
    /// The job ended. Reported once per job in a call that returns `Ok`.
    Ended(JobEnd),
}

/// Callback for job events.
pub type Watch<'a> = dyn FnMut(&Job, JobEvent) + Send + 'a;

/// A back end that runs jobs.
///
/// # Contract
/// - [`run`](Self::run) returns when all jobs have ended. A failed job does not stop the others.
/// - After `cancel`, no job is started. Running jobs are asked to stop, and are killed after the back end's grace period. None is
///   running when `run` returns.
/// - On an error, some jobs may have had no event. Local jobs are killed.
/// - Slurm and Ray jobs outlive a killed caller. A later call with the same state folder and jobs waits for them and submits
///   the rest.
#[async_trait]
pub trait Scheduler: Send + Sync {
    /// Runs all jobs and reports their events to `watch` in the order of occurrence.
    ///
    /// # Errors
    /// [`SchedulerError`] where jobs cannot be run: a job requests more than there is, a program of the back end is missing, or a
    /// server does not answer.
    async fn run(
        &self,
        jobs: Vec<Job>,
        watch: &mut Watch<'_>,
        cancel: CancellationToken,
    ) -> Result<(), SchedulerError>;
}

/// Validates jobs for any back end.
///
/// # Errors
/// [`SchedulerError::Job`].
pub(crate) fn check(jobs: &[Job]) -> Result<(), SchedulerError> {
    let mut names = HashSet::new();
    for job in jobs {
        let error = |reason: &str| Err(SchedulerError::job(&job.name, reason));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !job.name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !job.name.chars().all(plain) {
            return error(
                "a name is made of letters, digits, `-`, `_` and `.`, and starts with one of the first two",
            );
        }
        if !names.insert(&job.name) {
            return error("two jobs have this name; names are their identity");
        }
        if job.command.first().is_none_or(String::is_empty) {
            return error("its command is empty");
        }
        if !job.dir.is_absolute() || !job.log.is_absolute() {
            return error("its folder and its log must be absolute paths");
        }
        let of_variable = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if let Some((name, _)) =
            job.env.iter().find(|(it, _)| it.is_empty() || !it.chars().all(of_variable))
        {
            return error(&format!("`{name}` cannot name an environment variable"));
        }
        let texts = job.command.iter().chain(job.env.iter().map(|(_, value)| value));
        if texts.into_iter().any(|text| text.contains('\0')) {
            return error("its command or environment has a NUL byte");
        }
    }
    Ok(())
}

impl Job {
    /// CPU cores, at least one.
    pub(crate) fn cores(&self) -> u32 {
        self.cpus.max(1)
    }

    /// Threads of each of its processes, at least one.
    fn threads(&self) -> u32 {
        (self.cores() / self.processes.max(1)).max(1)
    }

    /// Environment variables to set: the job's own, and thread limits that it does not set.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let own = |name: &str| self.env.iter().any(|(it, _)| it == name);
        let threads = THREADS.iter().filter(|name| !own(name));
        let threads = threads.map(|name| ((*name).to_owned(), self.threads().to_string()));
        self.env.iter().cloned().chain(threads).collect()
    }
}

/// OpenMP (libtorch), MKL, OpenBLAS, and Rust's rayon.
const THREADS: [&str; 4] =
    ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"];

#[cfg(test)]
mod tests {
    use super::*;

    fn job(name: &str) -> Job {
        let (dir, log) = ("/".into(), "/tmp/log".into());
        Job {
            name: name.into(),
            command: vec!["true".into()],
            dir,
            log,
            env: Vec::new(),
            cpus: 2,
            gpus: 0,
            processes: 1,
        }
    }

    #[test]
    fn what_no_back_end_could_run_is_refused_by_name() {
        let refused = |change: &dyn Fn(&mut Job)| {
            let mut other = job("b");
            change(&mut other);
            check(&[job("a"), other]).unwrap_err().to_string()
        };
        assert!(check(&[job("a"), job("b")]).is_ok());
        assert!(refused(&|it| it.name = "a".into()).contains("two jobs"));
        for name in ["", "../b", "b c", "-b"] {
            assert!(refused(&|it| it.name = name.into()).contains("a name is made of"), "{name}");
        }
        assert!(refused(&|it| it.command.clear()).contains("`b`: its command is empty"));
        assert!(refused(&|it| it.dir = "here".into()).contains("absolute"));
        assert!(refused(&|it| it.env.push(("A;B".into(), String::new()))).contains("`A;B`"));
        assert!(refused(&|it| it.command.push("\0".into())).contains("NUL"));
    }

    #[test]
    fn libraries_get_as_many_threads_as_the_job_has_cores_unless_it_says_otherwise() {
        let mut job = job("a");
        job.env = vec![("OMP_NUM_THREADS".into(), "7".into())];
        let variables = job.variables();
        let of = |name: &str| variables.iter().filter(|(it, _)| it == name).collect::<Vec<_>>();
        assert_eq!(of("OMP_NUM_THREADS"), [&("OMP_NUM_THREADS".to_owned(), "7".to_owned())]);
        assert_eq!(of("MKL_NUM_THREADS"), [&("MKL_NUM_THREADS".to_owned(), "2".to_owned())]);
        let divided = |cpus, processes| Job { cpus, processes, ..job.clone() }.threads();
        assert_eq!([divided(8, 2), divided(1, 2), divided(0, 0)], [4, 1, 1]);
    }
}
