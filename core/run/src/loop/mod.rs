//! Iterative preference optimisation, as the paper writes it (arXiv 2406.11280).

mod evaluate;
mod judge;
mod measure;
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

use std::sync::Arc;

use isr_api::records::Summary;
use isr_api::{ComponentError, Error, Event, Fingerprint, FrozenPolicy, Observer, Streams};
use isr_config::{EvaluationConfig, LoopConfig, TrainConfig};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use crate::feature_cache::FeatureCache;
use crate::stage_cache::StageCache;
use crate::store::RunDir;
use crate::video_cache::VideoCache;
use crate::{Components, guard};

/// What a loop runs on: settings that are plain data, and the components that do the work.
pub struct LoopParts {
    /// The run's name, for records and observers.
    pub name: String,
    /// Fingerprint of the resolved config.
    pub config: Fingerprint,
    /// Root of all random streams.
    pub seed: u64,
    /// The loop's own settings.
    pub settings: LoopConfig,
    /// Training settings.
    pub train: TrainConfig,
    /// Evaluation settings.
    pub evaluation: EvaluationConfig,
    /// The plugins.
    pub components: Components,
    /// Whether the judge knows what is true, which every record of its verdicts says
    /// ([`isr_config::is_oracle`]).
    pub oracle: bool,
    /// Where the run is written; it is continued if it was cut.
    pub store: RunDir,
    /// Who watches.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Stops the run in a state that can be continued.
    pub cancel: CancellationToken,
}

/// The loop. It knows no model, device, batch or cache: those are the components' business.
pub struct IterativeLoop {
    parts: LoopParts,
    streams: Streams,
    scenes: Arc<VideoCache>,
    frozen: FrozenPolicy,
    shared: Option<StageCache>,
}

impl IterativeLoop {
    /// A loop that is ready to run.
    pub fn new(parts: LoopParts) -> Self {
        let components = &parts.components;
        let (video, encoder) = (components.video.clone(), Some(components.encoder.clone()));
        let scenes = VideoCache::new(video, encoder, parts.settings.feature_cache_mb)
            .with_disk(FeatureCache::of_loop(&parts.settings));
        let scenes = Arc::new(scenes);
        let frozen = FrozenPolicy::new(components.policy.clone());
        Self { streams: Streams::new(parts.seed), scenes, frozen, shared: None, parts }
    }

    /// Unlocks the run directory, and returns the components, whose drop may block.
    pub fn into_components(self) -> Components {
        self.parts.components
    }

    /// Runs all iterations that are not complete, and returns the summary of all.
    ///
    /// # Errors
    /// The run stops at the first error that is not one sample's. What was done is on disk: a loop with
    /// newly built components on the same directory goes on from there. (The policy of this one may be
    /// half trained; [`Error::OtherRun`] refuses it.)
    pub async fn run(&self) -> Result<Summary, Error> {
        self.interruptible(self.parts.components.data.prepare(), "prepare", "data").await?;
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
                let pairs = self.select(t, &responses, &verdicts)?;
                let training = self.train(t, &responses, &pairs).await?; // pi_{t+1} <- DPO(pairs; pi_t)
                let evaluation = self.evaluate(t, &data).await?;
                progress.remember(contexts);
                self.summarise(t, &data, samples.len(), training, evaluation)
            };
            let row = iteration.instrument(info_span!("iteration", t)).await?;
            progress.summary.iterations.push(row.clone());
            self.write_summary(&progress.summary)?;
            self.observe(&Event::IterationFinished { summary: &row });
        }
        self.observe(&Event::RunFinished);
        Ok(progress.summary)
    }

    /// Awaits a component's call, unless the run is cancelled first.
    async fn interruptible<T>(
        &self,
        call: impl Future<Output = Result<T, ComponentError>>,
        stage: &str,
        subject: &str,
    ) -> Result<T, Error> {
        guard::interruptible(&self.parts.cancel, call, stage, subject).await
    }

    fn observe(&self, event: &Event<'_>) {
        for observer in &self.parts.observers {
            observer.observe(event);
        }
    }
}
