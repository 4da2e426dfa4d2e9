//! Ray jobs, submitted by the REST API of Ray's dashboard.
//!
//! Its reference: docs.ray.io, "Ray Jobs REST API"; written against 2.60.

mod client;
mod submission;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use client::{Client, Status};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use submission::Submission;
use tokio_util::sync::CancellationToken;

use crate::scheduler::{Job, JobEnd, JobEvent, Scheduler, SchedulerError, Watch, job};

/// Ray jobs, one per job.
///
/// Job, log and state folders must be on a file system shared by all nodes. Jobs inherit the environment of Ray's nodes. The
/// environment variable `RAY_AUTH_TOKEN` is the cluster's token, if it requires one.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ray {
    /// Address of the dashboard. Default `http://127.0.0.1:8265`.
    #[serde(default = "default_address")]
    pub address: String,
    /// Maximum number of concurrent jobs, required: as many as the cluster has resources for. Ray fails a job that waits 15 minutes
    /// for its resources (RAY_JOB_START_TIMEOUT_SECONDS).
    pub jobs: usize,
    /// Seconds between two polls of a job. Default 5.
    #[serde(default = "default_poll")]
    pub poll: f64,
}

fn default_address() -> String {
    "http://127.0.0.1:8265".to_owned()
}

fn default_poll() -> f64 {
    5.0
}

/// Looks at a job that may fail one after another: a head node restarts now and then.
const FAILURES: u32 = 20;

/// Ray, and the folder in which it is remembered what was submitted.
pub(crate) struct RayScheduler {
    pub(crate) settings: Ray,
    pub(crate) state: PathBuf,
}

/// A job under way.
struct Running {
    job: Job,
    submission: Submission,
    started: bool,
    asked_to_stop: bool,
}

#[async_trait]
impl Scheduler for RayScheduler {
    async fn run(
        &self,
        jobs: Vec<Job>,
        watch: &mut Watch<'_>,
        cancel: CancellationToken,
    ) -> Result<(), SchedulerError> {
        job::check(&jobs)?;
        let client = Client::new(&self.settings.address)?;
        let (mut waiting, mut running) = (jobs.into_iter(), Vec::new());
        let mut failures = 0;
        loop {
            while running.len() < self.settings.jobs.max(1)
                && !cancel.is_cancelled()
                && let Some(job) = waiting.next()
            {
                let submission = Submission::of(&self.state, &job)?;
                if client.status(&submission.id).await?.is_none() {
                    client.submit(&submission.body).await?;
                }
                running.push(Running { job, submission, started: false, asked_to_stop: false });
            }
            if running.is_empty() {
                break;
            }
            match look(&client, &mut running, watch, cancel.is_cancelled()).await {
                Ok(()) => failures = 0,
                Err(error) if failures >= FAILURES => return Err(error),
                Err(_) => failures += 1,
            }
            let poll = Duration::try_from_secs_f64(self.settings.poll).unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(poll) => {}
                () = cancel.cancelled(), if running.iter().any(|it| !it.asked_to_stop) => {}
            }
        }
        for job in waiting {
            watch(&job, JobEvent::Ended(JobEnd::Cancelled));
        }
        Ok(())
    }
}

/// Looks at each once, stops it where that is asked, and tells what has happened.
async fn look(
    client: &Client,
    running: &mut Vec<Running>,
    watch: &mut Watch<'_>,
    cancelled: bool,
) -> Result<(), SchedulerError> {
    let mut at = 0;
    while let Some(it) = running.get_mut(at) {
        if cancelled && !it.asked_to_stop {
            client.stop(&it.submission.id).await?;
            it.asked_to_stop = true;
        }
        let end = match client.status(&it.submission.id).await? {
            Some(Status::Pending) => None,
            Some(Status::Running) => {
                if !it.started {
                    it.started = true;
                    watch(&it.job, JobEvent::Started);
                }
                None
            }
            Some(Status::Succeeded) => Some(JobEnd::Done),
            Some(Status::Over(_)) | None if cancelled => Some(JobEnd::Cancelled),
            Some(Status::Over(status)) => Some(JobEnd::Failed { status }),
            None => Some(JobEnd::Failed { status: "Ray has forgotten it: was it restarted?".to_owned() }),
        };
        let Some(end) = end else {
            at += 1;
            continue;
        };
        let it = running.remove(at);
        watch(&it.job, JobEvent::Ended(end));
        it.submission.forget()?;
    }
    Ok(())
}
