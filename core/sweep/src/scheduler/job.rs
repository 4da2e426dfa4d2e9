//! What is run, and what becomes of it.

use std::collections::HashSet;
use std::path::PathBuf;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::scheduler::SchedulerError;

/// A command that depends on no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name among those that are run together: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// Program and arguments; no shell reads them.
    pub command: Vec<String>,
    /// The folder it runs in, absolute.
    pub dir: PathBuf,
    /// Where standard output and error are appended, in the order they come; absolute. Its folder is made.
    pub log: PathBuf,
    /// Variables beside those that it inherits: ours, those that `sbatch` passes on, those of Ray's nodes.
    pub env: Vec<(String, String)>,
    /// Cores that it uses: what is reserved, and how many threads numerical libraries start.
    /// 0 counts as 1. What is computed may depend on the number of threads, so that of an experiment
    /// should be chosen once.
    pub cpus: u32,
    /// GPUs that it uses.
    pub gpus: u32,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// With exit status 0.
    Done,
    /// In any other way; it may be run again.
    Failed {
        /// What is known of it, for people: `exit status: 3`, `TIMEOUT`, ...
        status: String,
    },
    /// It was stopped, or not started, because its caller asked.
    Cancelled,
}

/// What is told of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEvent {
    /// It runs now. Not told of a job that was found running or ended from an earlier call.
    Started,
    /// It ended. Told once of each job in a call that returns `Ok`.
    Ended(JobEnd),
}

/// Is told what happens to jobs.
pub type Watch<'a> = dyn FnMut(&Job, JobEvent) + Send + 'a;

/// Runs jobs somewhere.
///
/// # Contract
/// - [`run`](Self::run) returns when all jobs have ended. That one failed stops no other.
/// - Once `cancel` is cancelled no job is started, those under way are asked to stop, and are killed if
///   they do not within the back end's grace. When it returns, none of them is running.
/// - On an error jobs of this call may not have been told of; local ones are killed.
/// - Slurm and Ray jobs outlive a caller that is killed. A later call with the same state folder and the
///   same jobs waits for these, and submits what is left.
#[async_trait]
pub trait Scheduler: Send + Sync {
    /// Runs all of them, and tells `watch` what happens, in the order it does.
    ///
    /// # Errors
    /// Where jobs cannot be run at all: a job asks for more than there is, a program of the back end is
    /// missing, a server does not answer.
    async fn run(
        &self,
        jobs: Vec<Job>,
        watch: &mut Watch<'_>,
        cancel: CancellationToken,
    ) -> Result<(), SchedulerError>;
}

/// Whether these can be run together, by any back end.
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
    /// Cores, at least one.
    pub(crate) fn threads(&self) -> u32 {
        self.cpus.max(1)
    }

    /// All variables to set: its own, and how many threads libraries may start where it does not say.
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
        Job { name: name.into(), command: vec!["true".into()], dir, log, env: Vec::new(), cpus: 2, gpus: 0 }
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
    }
}
