//! The kinds of component, each with its typetag'd config trait.

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::BuildContext;
use crate::error::Cause;
use crate::{
    Demonstrations, Evaluator, Judge, Observer, Policy, PreferenceObjective, Retrospector, SampleSource,
    Selection, VideoEncoder, VideoReader,
};

/// A kind of component; its name is the section of the config that chooses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Sources of samples.
    Data,
    /// Video readers.
    Video,
    /// Video encoders.
    Encoder,
    /// Policies.
    Policy,
    /// Retrospectors.
    Retrospector,
    /// Judges.
    Judge,
    /// Preference objectives.
    Objective,
    /// Selections of pairs.
    Selection,
    /// Evaluators.
    Evaluator,
    /// Demonstrations for supervised training.
    Demonstrations,
    /// Observers, of which a config may name several.
    Observer,
}

impl Kind {
    /// All kinds, in the order of a config.
    pub const ALL: [Self; 11] = [
        Self::Data,
        Self::Video,
        Self::Encoder,
        Self::Policy,
        Self::Retrospector,
        Self::Judge,
        Self::Objective,
        Self::Selection,
        Self::Evaluator,
        Self::Demonstrations,
        Self::Observer,
    ];

    /// The section of the config.
    pub fn section(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Video => "video",
            Self::Encoder => "encoder",
            Self::Policy => "policy",
            Self::Retrospector => "retrospector",
            Self::Judge => "judge",
            Self::Objective => "objective",
            Self::Selection => "selection",
            Self::Evaluator => "evaluator",
            Self::Demonstrations => "demonstrations",
            Self::Observer => "observers",
        }
    }
}

macro_rules! config_trait {
    ($(#[$doc:meta])* $name:ident => $built:ident) => {
        $(#[$doc])*
        #[typetag::serde(tag = "type")]
        pub trait $name: Debug + Send + Sync {
            /// The registered name.
            fn name(&self) -> &str;
            /// See [`super::Component::validate`].
            fn validate(&self) -> Result<(), String>;
            /// See [`super::Component::build`].
            fn build(&self, cx: &BuildContext) -> Result<Arc<dyn $built>, Cause>;
        }
    };
}

config_trait!(
    /// Config of a [`SampleSource`].
    DataConfig => SampleSource
);
config_trait!(
    /// Config of a [`VideoReader`].
    VideoConfig => VideoReader
);
config_trait!(
    /// Config of a [`VideoEncoder`].
    EncoderConfig => VideoEncoder
);
config_trait!(
    /// Config of a [`Policy`].
    PolicyConfig => Policy
);
config_trait!(
    /// Config of a [`Retrospector`].
    RetrospectorConfig => Retrospector
);
config_trait!(
    /// Config of a [`Judge`].
    JudgeConfig => Judge
);
config_trait!(
    /// Config of a [`PreferenceObjective`].
    ObjectiveConfig => PreferenceObjective
);
config_trait!(
    /// Config of a [`Selection`].
    SelectionConfig => Selection
);
config_trait!(
    /// Config of an [`Evaluator`].
    EvaluatorConfig => Evaluator
);
config_trait!(
    /// Config of a [`Demonstrations`].
    DemonstrationsConfig => Demonstrations
);
config_trait!(
    /// Config of an [`Observer`].
    ObserverConfig => Observer
);
