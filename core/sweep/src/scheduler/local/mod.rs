//! Processes of this machine.

mod process;
mod slots;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use slots::Slots;
use tokio_util::sync::CancellationToken;

use crate::scheduler::{Job, JobEnd, JobEvent, Scheduler, SchedulerError, Watch, job};

/// Processes of this machine, some at once.
///
/// Each is a process group of its own, which ends with it. On cancellation it gets SIGINT, after the grace
/// SIGTERM, and a little later SIGKILL. Where the caller is itself killed by SIGKILL, jobs go on.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Local {
    /// Jobs at once. Without it, as many as the cores allow, by what each job says that it uses.
    pub jobs: Option<usize>,
    /// GPUs to hand out, as CUDA_VISIBLE_DEVICES names them (`"0"`, or a UUID). A job sees those it
    /// was given and no other. Where this is empty, CUDA_VISIBLE_DEVICES is left alone.
    pub gpus: Vec<String>,
    /// Seconds from SIGINT to SIGTERM, for a job to finish its step and write what it has.
    pub grace: f64,
}

impl Default for Local {
    fn default() -> Self {
        Self { jobs: None, gpus: Vec::new(), grace: 30.0 }
    }
}

#[async_trait]
impl Scheduler for Local {
    async fn run(
        &self,
        jobs: Vec<Job>,
        watch: &mut Watch<'_>,
        cancel: CancellationToken,
    ) -> Result<(), SchedulerError> {
        job::check(&jobs)?;
        let mut slots = Slots::new(self.jobs, &self.gpus);
        jobs.iter().try_for_each(|job| slots.check(job))?;
        let (mut waiting, mut running) = (jobs, FuturesUnordered::new());
        loop {
            while !cancel.is_cancelled()
                && let Some((at, share)) = slots.next(&waiting)
            {
                let job = waiting.remove(at);
                watch(&job, JobEvent::Started);
                let cancel = cancel.clone();
                running.push(async move {
                    let end = process::run(&job, &share, self.grace, cancel).await;
                    (job, share, end)
                });
            }
            let Some((job, share, end)) = running.next().await else { break };
            slots.give_back(share);
            watch(&job, JobEvent::Ended(end));
        }
        for job in &waiting {
            watch(job, JobEvent::Ended(JobEnd::Cancelled));
        }
        Ok(())
    }
}
