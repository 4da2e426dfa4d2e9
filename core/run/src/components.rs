//! From a config to what it names.

use std::fmt;
use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Error, Evaluator, Judge, Kind, Policy, PreferenceObjective, Retrospector,
    SampleSource, Selection, VideoEncoder, VideoReader,
};
use isr_config::RunConfig;

/// The runtime objects that a [`RunConfig`] names.
#[derive(Clone)]
pub struct Components {
    /// Where samples come from.
    pub data: Arc<dyn SampleSource>,
    /// Reads videos.
    pub video: Arc<dyn VideoReader>,
    /// Turns frames into features.
    pub encoder: Arc<dyn VideoEncoder>,
    /// The model that is aligned.
    pub policy: Arc<dyn Policy>,
    /// Writes the visual context; without it the judge sees none.
    pub retrospector: Option<Arc<dyn Retrospector>>,
    /// Compares two answers.
    pub judge: Arc<dyn Judge>,
    /// The preference loss.
    pub objective: Arc<dyn PreferenceObjective>,
    /// Chooses the pairs to train on.
    pub selection: Arc<dyn Selection>,
    /// Measures answers; without it nothing is measured.
    pub evaluator: Option<Arc<dyn Evaluator>>,
}

/// One section's object, or the error that names the section and the component.
macro_rules! built {
    ($kind:ident, $config:expr, $cx:expr) => {
        named(Kind::$kind, $config.name(), $config.build($cx))
    };
}

impl Components {
    /// Builds every component that the config names.
    ///
    /// # Errors
    /// [`Error::Build`] of the first component that cannot be built.
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
