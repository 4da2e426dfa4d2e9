//! [`Components`]: the runtime objects of a run.

use std::fmt;
use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Error, Evaluator, Judge, Kind, Policy, PreferenceObjective, Retrospector,
    SampleSource, Selection, VideoEncoder, VideoReader,
};
use isr_config::RunConfig;

use crate::sampled_policy::SampledPolicy;

/// The runtime objects that a [`RunConfig`] selects.
#[derive(Clone)]
pub struct Components {
    /// Source of samples.
    pub data: Arc<dyn SampleSource>,
    /// Video decoder and frame sampler.
    pub video: Arc<dyn VideoReader>,
    /// Frozen vision tower; `None` where the policy [reads frames](Policy::reads_frames) itself.
    pub encoder: Option<Arc<dyn VideoEncoder>>,
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
        ComponentValues::default().complete(config, cx)
    }
}

/// Components that a program gives as values, in place of what a config names.
#[derive(Clone, Default)]
#[allow(missing_docs, reason = "the fields are those of `Components`")]
pub struct ComponentValues {
    pub data: Option<Arc<dyn SampleSource>>,
    pub video: Option<Arc<dyn VideoReader>>,
    pub encoder: Option<Arc<dyn VideoEncoder>>,
    pub policy: Option<Arc<dyn Policy>>,
    pub retrospector: Option<Arc<dyn Retrospector>>,
    pub judge: Option<Arc<dyn Judge>>,
    pub objective: Option<Arc<dyn PreferenceObjective>>,
    pub selection: Option<Arc<dyn Selection>>,
    pub evaluator: Option<Arc<dyn Evaluator>>,
}

/// The value, or what the section builds.
macro_rules! given_or_built {
    ($given:expr, $kind:ident, $config:expr, $cx:expr) => {
        match $given {
            Some(value) => value,
            None => built!($kind, $config, $cx)?,
        }
    };
}

impl ComponentValues {
    /// These values, and where there is none that of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            data: self.data.or(other.data),
            video: self.video.or(other.video),
            encoder: self.encoder.or(other.encoder),
            policy: self.policy.or(other.policy),
            retrospector: self.retrospector.or(other.retrospector),
            judge: self.judge.or(other.judge),
            objective: self.objective.or(other.objective),
            selection: self.selection.or(other.selection),
            evaluator: self.evaluator.or(other.evaluator),
        }
    }

    /// Builds every component that the config names, but for those that are given.
    ///
    /// # Errors
    /// [`Error::Build`] of the first component that cannot be built.
    pub fn complete(self, config: &RunConfig, cx: &BuildContext) -> Result<Components, Error> {
        let optional = config.retrospector.as_ref();
        let retrospector = match (self.retrospector, optional) {
            (None, Some(section)) => Some(built!(Retrospector, section, cx)?),
            (given, _) => given,
        };
        let evaluator = match (self.evaluator, config.evaluator.as_ref()) {
            (None, Some(section)) => Some(built!(Evaluator, section, cx)?),
            (given, _) => given,
        };
        let data = given_or_built!(self.data, Data, config.data, cx);
        let video = given_or_built!(self.video, Video, config.video, cx);
        let policy = given_or_built!(self.policy, Policy, config.policy, cx);
        let policy = match &config.sampler {
            Some(section) => {
                Arc::new(SampledPolicy::new(policy, built!(Sampler, section, cx)?)) as Arc<dyn Policy>
            }
            None => policy,
        };
        let encoder = match (self.encoder, &config.encoder) {
            (Some(value), _) => Some(value),
            (None, Some(section)) => Some(built!(Encoder, section, cx)?),
            (None, None) => encoder_of(policy.as_ref(), config.policy.name())?,
        };
        let judge = given_or_built!(self.judge, Judge, config.judge, cx);
        let objective = given_or_built!(self.objective, Objective, config.objective, cx);
        let selection = given_or_built!(self.selection, Selection, config.selection, cx);
        Ok(Components {
            data,
            video,
            encoder,
            policy,
            retrospector,
            judge,
            objective,
            selection,
            evaluator,
        })
    }
}

/// The encoder of a policy's own checkpoint; `None` for a policy that reads frames itself.
///
/// # Errors
/// [`Error::Build`] for a policy that has none and needs one.
pub fn encoder_of(policy: &dyn Policy, name: &str) -> Result<Option<Arc<dyn VideoEncoder>>, Error> {
    match policy.encoder() {
        None if !policy.reads_frames() => {
            let cause = format!("policy `{name}` has no encoder of its own; choose one in [encoder]");
            let name = "the policy's own".to_owned();
            Err(Error::Build { kind: Kind::Encoder.section(), name, cause: cause.into() })
        }
        encoder => Ok(encoder),
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
