//! What of the machine is free.

use std::thread::available_parallelism;

use crate::scheduler::{Job, SchedulerError};

/// What of the machine is free.
pub(super) struct Slots {
    jobs: usize,
    /// `None` where the number of jobs was chosen: then cores are not counted.
    cores: Option<u32>,
    running: usize,
    used: u32,
    gpus: Vec<String>,
    all_gpus: usize,
}

/// What a job was given.
pub(super) struct Share {
    cores: u32,
    gpus: Vec<String>,
    /// Value of CUDA_VISIBLE_DEVICES, where GPUs are handed out.
    pub(super) visible: Option<String>,
}

impl Slots {
    /// `jobs` is the most jobs at once; `None` limits them by this machine's cores.
    pub(super) fn new(jobs: Option<usize>, gpus: &[String]) -> Self {
        let cores = available_parallelism().map_or(1, usize::from) as u32;
        Self {
            jobs: jobs.unwrap_or(usize::MAX).max(1),
            cores: jobs.is_none().then_some(cores),
            running: 0,
            used: 0,
            gpus: gpus.to_vec(),
            all_gpus: gpus.len(),
        }
    }

    /// Whether it could ever run.
    pub(super) fn check(&self, job: &Job) -> Result<(), SchedulerError> {
        let (asked, all) = (job.gpus as usize, self.all_gpus);
        if asked <= all {
            return Ok(());
        }
        let reason = format!(
            "asks for {asked} GPUs and the scheduler was given {all}; name them: `gpus = [\"0\", ...]`"
        );
        Err(SchedulerError::job(&job.name, reason))
    }

    /// The first that can start now, and what it is given.
    pub(super) fn next(&mut self, waiting: &[Job]) -> Option<(usize, Share)> {
        let at = waiting.iter().position(|job| self.has_room_for(job))?;
        let cores = waiting[at].cores();
        let gpus: Vec<String> = self.gpus.drain(..waiting[at].gpus as usize).collect();
        self.running += 1;
        self.used = self.used.saturating_add(cores);
        let visible = (self.all_gpus > 0).then(|| gpus.join(","));
        Some((at, Share { cores, gpus, visible }))
    }

    pub(super) fn give_back(&mut self, share: Share) {
        self.running -= 1;
        self.used = self.used.saturating_sub(share.cores);
        self.gpus.extend(share.gpus);
    }

    fn has_room_for(&self, job: &Job) -> bool {
        // One that wants more cores than there are runs alone.
        let fits = |cores: u32| self.running == 0 || self.used.saturating_add(job.cores()) <= cores;
        self.running < self.jobs && self.cores.is_none_or(fits) && job.gpus as usize <= self.gpus.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(cpus: u32, gpus: u32) -> Job {
        let (name, command) = ("a".to_owned(), vec!["true".to_owned()]);
        Job {
            name,
            command,
            dir: "/".into(),
            log: "/tmp/log".into(),
            env: Vec::new(),
            cpus,
            gpus,
            processes: 1,
        }
    }

    fn slots(jobs: Option<usize>, cores: u32, gpus: &[&str]) -> Slots {
        let gpus: Vec<String> = gpus.iter().map(|it| (*it).to_owned()).collect();
        let slots = Slots::new(jobs, &gpus);
        Slots { cores: slots.cores.map(|_| cores), ..slots }
    }

    #[test]
    fn cores_limit_what_runs_at_once_and_a_job_of_more_than_all_runs_alone() {
        let mut slots = slots(None, 4, &[]);
        let first = slots.next(&[job(3, 0)]).unwrap().1;
        assert!(slots.next(&[job(2, 0)]).is_none());
        let (at, second) = slots.next(&[job(2, 0), job(1, 0)]).unwrap();
        assert_eq!(at, 1, "a smaller one goes first rather than that cores lie idle");
        slots.give_back(first);
        assert!(slots.next(&[job(9, 0)]).is_none());
        slots.give_back(second);
        assert!(slots.next(&[job(9, 0)]).is_some());
        assert!(slots.next(&[job(1, 0)]).is_none());
    }

    #[test]
    fn a_chosen_number_of_jobs_is_kept_whatever_the_cores() {
        let mut slots = slots(Some(2), 1, &[]);
        let first = slots.next(&[job(4, 0)]).unwrap().1;
        assert!(slots.next(&[job(4, 0)]).is_some());
        assert!(slots.next(&[job(4, 0)]).is_none());
        slots.give_back(first);
        assert!(slots.next(&[job(4, 0)]).is_some());
    }

    #[test]
    fn no_gpu_is_given_twice_and_jobs_without_one_see_none() {
        let mut slots = slots(Some(9), 1, &["0", "GPU-b", "2"]);
        let first = slots.next(&[job(1, 2)]).unwrap().1;
        assert_eq!(first.visible.as_deref(), Some("0,GPU-b"));
        assert!(slots.next(&[job(1, 2)]).is_none());
        assert_eq!(slots.next(&[job(1, 1)]).unwrap().1.visible.as_deref(), Some("2"));
        assert_eq!(slots.next(&[job(1, 0)]).unwrap().1.visible.as_deref(), Some(""));
        slots.give_back(first);
        assert_eq!(slots.next(&[job(1, 1)]).unwrap().1.visible.as_deref(), Some("0"));
    }

    #[test]
    fn more_gpus_than_there_are_is_an_error_that_names_the_job() {
        let message = slots(None, 1, &["0"]).check(&job(1, 2)).unwrap_err().to_string();
        assert!(message.contains("job `a`: asks for 2 GPUs and the scheduler was given 1"), "{message}");
        assert!(slots(None, 1, &[]).next(&[job(1, 0)]).unwrap().1.visible.is_none());
    }
}
