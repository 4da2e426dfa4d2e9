//! Local processes.

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

/// Local processes with a limit on concurrency.
///
/// Each job is a process group, which ends with the job. On cancellation it gets SIGINT, after `grace` SIGTERM, and 5 s later
/// SIGKILL. A job finds the caller's process id in [`PARENT_VARIABLE`](crate::scheduler::PARENT_VARIABLE), so that it can end when
/// the caller is killed by SIGKILL; `isr run` does.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Local {
    /// Maximum number of concurrent jobs. Default: as many as fit the machine's cores by their `cpus`.
    pub jobs: Option<usize>,
    /// GPUs to assign, as in CUDA_VISIBLE_DEVICES (`"0"`, or a UUID). A job sees only its own. Default none: CUDA_VISIBLE_DEVICES
    /// is not set.
    pub gpus: Vec<String>,
    /// Seconds from SIGINT to SIGTERM, in which a job can finish its step and checkpoint. Default 30.
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
