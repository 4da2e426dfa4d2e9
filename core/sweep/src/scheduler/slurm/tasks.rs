//! Jobs as tasks of arrays: which is where, and how it stands.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::array::Array;
use super::commands::Programs;
use super::config::Slurm;
use super::state::State;
use crate::scheduler::{Job, JobEnd, JobEvent, SchedulerError, Watch};

/// Looks at the queue that may fail one after another: a controller restarts now and then.
const FAILURES: u32 = 20;

/// Jobs of an array where the cluster does not tell: Slurm's default of `MaxArraySize` is 1001.
const USUAL_ARRAY: usize = 1000;

/// The jobs of one call.
pub(super) struct Tasks {
    programs: Programs,
    /// Those in which a job of this call is.
    arrays: Vec<Array>,
    open: Vec<Task>,
    /// Not in any array yet.
    new: Vec<Job>,
    failures: u32,
}

/// A job that has not ended yet, as far as was told.
struct Task {
    job: Job,
    array: usize,
    index: usize,
    started: bool,
    /// Since when it is out of the queue without an exit status.
    missing: Option<Instant>,
}

impl Tasks {
    /// Finds jobs in the arrays of earlier calls.
    pub(super) async fn find(
        programs: Programs,
        state: &Path,
        jobs: Vec<Job>,
    ) -> Result<Self, SchedulerError> {
        let mut tasks = Self { programs, arrays: Vec::new(), open: Vec::new(), new: jobs, failures: 0 };
        for array in Array::all(state)? {
            if array.id.is_none()
                && !array.has_exits()
                && tasks.programs.squeue(&array.name).await?.is_empty()
            {
                // Its caller was cut before it could submit it.
                array.forget()?;
                continue;
            }
            let before = tasks.open.len();
            let scripts = array.scripts();
            for job in std::mem::take(&mut tasks.new) {
                match array.index_of(&job, &scripts)? {
                    Some(index) => tasks.add(job, tasks.arrays.len(), index),
                    None => tasks.new.push(job),
                }
            }
            // What runs jobs that nobody asks for any more is left alone.
            if tasks.open.len() > before {
                tasks.arrays.push(array);
            }
        }
        Ok(tasks)
    }

    fn add(&mut self, job: Job, array: usize, index: usize) {
        self.open.push(Task { job, array, index, started: false, missing: None });
    }

    /// Submits those that are in no array, in arrays of `largest` jobs. Where the number of concurrent jobs is limited, which
    /// Slurm does for each array alone, only when no other array is under way.
    pub(super) async fn submit(
        &mut self,
        state: &Path,
        slurm: &Slurm,
        largest: usize,
    ) -> Result<(), SchedulerError> {
        while let Some(first) = self.new.first() {
            if slurm.jobs.is_some() && !self.open.is_empty() {
                return Ok(());
            }
            let needs = (first.cores(), first.gpus);
            let (mut jobs, mut others) = (Vec::new(), Vec::new());
            for job in std::mem::take(&mut self.new) {
                let fits = (job.cores(), job.gpus) == needs && jobs.len() < largest.max(1);
                if fits { &mut jobs } else { &mut others }.push(job);
            }
            self.new = others;
            let mut array = Array::write(state, &jobs)?;
            array.submit(&self.programs, &jobs, slurm).await?;
            for (index, job) in jobs.into_iter().enumerate() {
                self.add(job, self.arrays.len(), index);
            }
            self.arrays.push(array);
        }
        Ok(())
    }

    /// The largest number of jobs of an array.
    pub(super) async fn largest_array(&self, slurm: &Slurm) -> usize {
        match slurm.max_array {
            Some(most) => most,
            None if self.new.len() <= 1 => 1,
            None => self.programs.max_array().await.unwrap_or(USUAL_ARRAY),
        }
    }

    pub(super) fn are_left(&self) -> bool {
        !self.open.is_empty() || !self.new.is_empty()
    }

    /// Ends the arrays of all jobs that have not ended.
    pub(super) async fn cancel(&mut self) -> Result<(), SchedulerError> {
        for (at, array) in self.arrays.iter().enumerate() {
            if self.open.iter().any(|task| task.array == at) {
                self.programs.scancel(&array.name).await?;
            }
        }
        Ok(())
    }

    /// Looks once at all that is left, and tells what has happened.
    pub(super) async fn look(
        &mut self,
        settle: Duration,
        cancelled: bool,
        watch: &mut Watch<'_>,
    ) -> Result<(), SchedulerError> {
        if cancelled {
            for job in self.new.drain(..) {
                watch(&job, JobEvent::Ended(JobEnd::Cancelled));
            }
        }
        let mut queues = HashMap::new();
        for (at, array) in self.arrays.iter().enumerate() {
            if !self.open.iter().any(|task| task.array == at) {
                continue;
            }
            match self.programs.squeue(&array.name).await {
                Ok(queue) => queues.insert(at, queue),
                Err(error) if self.failures >= FAILURES => return Err(error),
                Err(_) => {
                    self.failures += 1;
                    return Ok(());
                }
            };
        }
        self.failures = 0;
        for mut task in std::mem::take(&mut self.open) {
            let state = queues.get(&task.array).and_then(|queue| queue.get(&task.index));
            if state == Some(&State::Running) && !task.started {
                task.started = true;
                watch(&task.job, JobEvent::Started);
            }
            match task.end(&self.programs, &self.arrays[task.array], state, settle, cancelled).await {
                Some(end) => watch(&task.job, JobEvent::Ended(end)),
                None => self.open.push(task),
            }
        }
        Ok(())
    }

    /// Removes the arrays of this call's jobs, of which everything was told.
    pub(super) fn forget(&self) -> Result<(), SchedulerError> {
        self.arrays.iter().try_for_each(Array::forget)
    }
}

impl Task {
    async fn end(
        &mut self,
        programs: &Programs,
        array: &Array,
        state: Option<&State>,
        settle: Duration,
        cancelled: bool,
    ) -> Option<JobEnd> {
        let word = match state {
            // What it wrote is of an earlier start, or a moment old.
            Some(State::Waiting | State::Running) => return None,
            Some(State::Over(word)) => Some(word.as_str()),
            None => None,
        };
        match array.exit(self.index) {
            Some(0) => return Some(JobEnd::Done),
            _ if cancelled => return Some(JobEnd::Cancelled),
            Some(status) => return Some(JobEnd::Failed { status: format!("exit status: {status}") }),
            None => {}
        }
        let waited = self.missing.get_or_insert_with(Instant::now).elapsed() >= settle;
        if !waited && word.is_none_or(State::may_have_written) {
            return None;
        }
        let word = match (word, &array.id) {
            (Some(word), _) => Some(word.to_owned()),
            (None, Some(id)) => programs.sacct(id, self.index).await,
            (None, None) => None,
        };
        let id = array.id.as_deref().unwrap_or(&array.name);
        let unknown = || "it left the queue without an exit status".to_owned();
        let status = format!("{} (Slurm's job {id}_{})", word.unwrap_or_else(unknown), self.index);
        Some(JobEnd::Failed { status })
    }
}
