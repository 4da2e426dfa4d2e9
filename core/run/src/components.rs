//! [`Components`]: the runtime objects of a run.

use std::fmt;
use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Error, Evaluator, Judge, Kind, Policy, PreferenceObjective, Retrospector,
    SampleSource, Selection, VideoEncoder, VideoReader,
};
use isr_config::RunConfig;

/// The runtime objects that a [`RunConfig`] selects.
#[derive(Clone)]
pub struct Components {
    /// Source of samples.
    pub data: Arc<dyn SampleSource>,
    /// Video decoder and frame sampler.
    pub video: Arc<dyn VideoReader>,
    /// Frozen vision tower.
    pub encoder: Arc<dyn VideoEncoder>,
    /// Model to align.
    pub policy: Arc<dyn Policy>,
    /// Writer of visual contexts; `None` in runs whose judge reads no context.
    pub retrospector: Option<Arc<dyn Retrospector>>,
    /// Pairwise judge.
    pub judge: Arc<dyn Judge>,
    /// Preference loss.
    pub objective: Arc<dyn PreferenceObjective>,
    /// Rule that turns verdicts into preference pairs.
    pub selection: Arc<dyn Selection>,
    /// Metrics of responses; `None` disables evaluation.
    pub evaluator: Option<Arc<dyn Evaluator>>,
}

/// Builds the component of one section; an error names section and component.
macro_rules! built {
    ($kind:ident, $config:expr, $cx:expr) => {
        named(Kind::$kind, $config.name(), $config.build($cx))
    };
}

impl Components {
    /// Builds every component of a config, in the order of its sections.
    ///
    /// # Errors
    /// [`Error::Build`] for the first component that cannot be built.
    pub fn build(config: &RunConfig, cx: &BuildContext) -> Result<Self, Error> {
        let retrospector = config.retrospector.as_ref();
        let evaluator = config.evaluator.as_ref();
        Ok(Self {
            data: built!(Data, config.data, cx)?,
            video: built!(Video, config.video, cx)?,
            encoder: built!(Encoder, config.encoder, cx)?,
            policy: built!(Policy, config.policy, cx)?,
            retrospector: retrospector.map(|c| built!(Retrospector, c, cx)).transpose()?,
            judge: built!(Judge, config.judge, cx)?,
            objective: built!(Objective, config.objective, cx)?,
            selection: built!(Selection, config.selection, cx)?,
            evaluator: evaluator.map(|c| built!(Evaluator, c, cx)).transpose()?,
        })
    }
}

fn named<T>(kind: Kind, name: &str, built: Result<T, Cause>) -> Result<T, Error> {
    built.map_err(|cause| Error::Build { kind: kind.section(), name: name.to_owned(), cause })
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Components").finish_non_exhaustive()
    }
}
