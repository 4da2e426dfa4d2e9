//! The kinds of component, each with its typetag'd config trait.

use std::fmt::Debug;
use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Demonstrations, Evaluator, Judge, Observer, Policy, PreferenceObjective,
    Retrospector, SampleSource, Selection, VideoEncoder, VideoReader,
};

macro_rules! config_trait {
    ($(#[$doc:meta])* $name:ident => $built:ident) => {
        $(#[$doc])*
        #[typetag::serde(tag = "type")]
        pub trait $name: Debug + Send + Sync {
            /// The registered name.
            fn name(&self) -> &str;
            /// See [`isr_api::Component::validate`].
            fn validate(&self) -> Result<(), String>;
            /// See [`isr_api::Component::build`].
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
