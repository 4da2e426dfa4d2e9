//! Iterative self-retrospective DPO (ISR-DPO, arXiv 2406.11280).
//!
//! [`IterativeLoop::run`] is the algorithm; each stage has a module of its own. `stage` runs the items of a stage,
//! `stage_journal` holds their outcomes on disk, `shared` reuses the results of other runs, and `resume` restores
//! the state of an interrupted run, whose inputs `inputs` identifies.

mod claims;
mod evaluate;
mod inputs;
mod judge;
mod measure;
mod mix;
mod pair_prompt;
mod parts;
mod ranking;
mod record;
mod reference;
mod resume;
mod sampling;
mod select;
mod shared;
mod stage;
mod stage_journal;
mod train;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use isr_api::records::Summary;
use isr_api::{ComponentError, Error, Event, Fingerprint, FrozenPolicy, Observer, ProcessGroup, Streams};
use isr_config::{EvaluationConfig, LoopConfig, TrainConfig};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::feature_cache::FeatureCache;
use crate::look::Look;
use crate::observers::Observers;
use crate::processes::Processes;
use crate::stage_cache::StageCache;
use crate::stop::Stop;
use crate::store::RunDir;
use crate::video_cache::VideoCache;
use crate::{Components, guard};

pub use mix::PreferenceData;

/// The inputs of an [`IterativeLoop`]: config, components and run directory.
pub struct LoopParts {
    /// Name of the run, for records and observers.
    pub name: String,
    /// Fingerprint of the resolved config.
    pub config: Fingerprint,
    /// Run seed, from which all random streams derive.
    pub seed: u64,
    /// Config section `[loop]`.
    pub settings: LoopConfig,
    /// Config section `[train]`.
    pub train: TrainConfig,
    /// Config section `[evaluation]`.
    pub evaluation: EvaluationConfig,
    /// Components of the run.
    pub components: Components,
    /// Whether the judge reads ground truth ([`isr_config::is_oracle`]); recorded with every verdict.
    pub oracle: bool,
    /// Run directory. An interrupted run in it is resumed.
    pub store: RunDir,
    /// Receivers of events.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Cancels the run; it can be resumed.
    pub cancel: CancellationToken,
}

/// The iterative DPO loop: rollouts, visual contexts, verdicts, preference pairs, training, evaluation.
///
/// It sees components through their traits only; models, devices and batches are theirs.
pub struct IterativeLoop {
    parts: LoopParts,
    streams: Streams,
    observers: Observers,
    videos: Arc<VideoCache>,
    frozen: FrozenPolicy,
    shared: Option<StageCache>,
    plugins: BTreeMap<String, String>,
    processes: Processes,
    stop: Stop,
    preference_data: Vec<PreferenceData>,
    /// Digest of the identities of all videos, once they are known.
    videos_digest: OnceLock<Fingerprint>,
}

impl IterativeLoop {
    /// Creates a loop. Reads and writes nothing yet.
    pub fn new(mut parts: LoopParts) -> Self {
        let observers = Observers::new(std::mem::take(&mut parts.observers));
        let components = &parts.components;
        let (video, encoder) = (components.video.clone(), components.encoder.clone());
        let videos = VideoCache::new(video, encoder, parts.settings.feature_cache_mb)
            .with_disk(FeatureCache::of_loop(&parts.settings));
        let videos = Arc::new(videos);
        let frozen = FrozenPolicy::new(components.policy.clone());
        Self {
            streams: Streams::new(parts.seed),
            observers,
            videos,
            frozen,
            shared: None,
            plugins: BTreeMap::new(),
            processes: Processes::single(parts.cancel.clone()),
            stop: Stop::default(),
            preference_data: Vec::new(),
            videos_digest: OnceLock::new(),
            parts,
        }
    }

    /// Runs the loop in a group of processes, each with components of its own and the same config, on one run directory.
    /// Stages have the results of one process, trainings but for rounding; only the first process reports to observers.
    #[must_use]
    pub fn with_processes(mut self, group: Arc<dyn ProcessGroup>) -> Self {
        if group.rank() > 0 {
            self.observers = Observers::new(Vec::new());
        }
        self.processes = Processes::of(group, self.parts.cancel.clone());
        self
    }

    /// Ends the run where nothing is lost when the token is cancelled: a training behind its current step, with a snapshot,
    /// everything else at once. [`LoopParts::cancel`] ends a training within its step, and loses those since the last
    /// snapshot.
    #[must_use]
    pub fn stopped_by(mut self, token: CancellationToken) -> Self {
        self.stop = Stop::on(token);
        self
    }

    /// Unlocks the run directory, and returns the components, whose drop may block.
    pub fn into_components(self) -> Components {
        self.parts.components
    }

    /// Runs all incomplete iterations; returns the summary of all iterations.
    ///
    /// # Errors
    /// The run stops at the first error that is not confined to one sample. Completed work is on disk: a new loop
    /// with newly built components resumes from the same directory. (The policy of this loop may be partly trained,
    /// which [`Error::OtherRun`] rejects.)
    pub async fn run(&self) -> Result<Summary, Error> {
        let outcome = self.stop.watch(&self.parts.cancel, self.iterate()).await;
        if let Err(error) = &outcome {
            // Other processes must not wait for one that is gone.
            self.processes.fail(error);
        }
        self.observers.flush().await;
        outcome
    }

    async fn iterate(&self) -> Result<Summary, Error> {
        self.prepare().await?;
        let data = self.load_data().await?;
        let mut progress = self.resume(&data).await?;
        self.measure_base(&data, &mut progress).await?;

        for t in progress.next_iteration()..=self.parts.settings.iterations {
            let iteration = async {
                self.begin(t).await?;
                let samples = self.draw_samples(t, &data);
                let responses = self.respond(t, &samples).await?; // y1, y2 ~ pi_t(V, x)
                let contexts = self.retrospect(t, &responses, &progress.contexts).await?; // c_t ~ pi_t(V, c_{t-1})
                let verdicts = self.judge(t, &responses, &contexts).await?; // p(y1 > y2 | V, x, c_t)
                let pairs = self.select(t, &responses, verdicts)?;
                let mixed = self.mix(t, &data, responses, pairs).await?; // with pairs of datasets
                let drawn = samples.len() + mixed.drawn;
                let training = self.train(t, mixed).await?; // pi_{t+1} <- DPO(pairs; pi_t)
                let evaluation = self.evaluate(t, &data).await?;
                progress.remember(contexts);
                self.summarise(t, drawn, training, evaluation).await
            };
            let row = iteration.instrument(info_span!("iteration", t)).await?;
            progress.summary.iterations.push(row.clone());
            self.write_summary(&progress.summary)?;
            self.observe(&Event::IterationFinished { summary: &row });
        }
        self.observe(&Event::RunFinished);
        Ok(progress.summary)
    }

    /// Awaits a component's call until it completes or the run is cancelled.
    async fn interruptible<T>(
        &self,
        call: impl Future<Output = Result<T, ComponentError>>,
        stage: &str,
        subject: &str,
    ) -> Result<T, Error> {
        guard::interruptible(&self.parts.cancel, call, stage, subject).await
    }

    /// How the stages of an iteration, its training included, see videos. Evaluations do by [`Look::Fixed`].
    fn look(&self, t: u32) -> Look {
        Look::Drawn { streams: self.streams, iteration: t }
    }

    fn observe(&self, event: &Event<'_>) {
        self.observers.observe(event);
    }
}
