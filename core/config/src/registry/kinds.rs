//! One typetag config trait per kind of component.

use std::fmt::Debug;
use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Demonstrations, Evaluator, Judge, Observer, Policy, PreferenceObjective,
    Preferences, Retrospector, SampleSource, Sampler, Selection, VideoEncoder, VideoReader,
};

macro_rules! config_trait {
    ($(#[$doc:meta])* $name:ident => $built:ident) => {
        $(#[$doc])*
        #[typetag::serde(tag = "type")]
        pub trait $name: Debug + Send + Sync {
            /// Returns the registered name, the value of `type`.
            fn name(&self) -> &str;
            /// Calls [`isr_api::Component::validate`].
            fn validate(&self) -> Result<(), String>;
            /// Calls [`isr_api::Component::build`].
            fn build(&self, cx: &BuildContext) -> Result<Arc<dyn $built>, Cause>;
        }
    };
}

config_trait!(
    /// Config struct of a [`SampleSource`].
    DataConfig => SampleSource
);
config_trait!(
    /// Config struct of a [`VideoReader`].
    VideoConfig => VideoReader
);
config_trait!(
    /// Config struct of a [`VideoEncoder`].
    EncoderConfig => VideoEncoder
);
config_trait!(
    /// Config struct of a [`Policy`].
    PolicyConfig => Policy
);
config_trait!(
    /// Config struct of a [`Sampler`].
    SamplerConfig => Sampler
);
config_trait!(
    /// Config struct of a [`Retrospector`].
    RetrospectorConfig => Retrospector
);
config_trait!(
    /// Config struct of a [`Judge`].
    JudgeConfig => Judge
);
config_trait!(
    /// Config struct of a [`PreferenceObjective`].
    ObjectiveConfig => PreferenceObjective
);
config_trait!(
    /// Config struct of a [`Selection`].
    SelectionConfig => Selection
);
config_trait!(
    /// Config struct of an [`Evaluator`].
    EvaluatorConfig => Evaluator
);
config_trait!(
    /// Config struct of a [`Demonstrations`].
    DemonstrationsConfig => Demonstrations
);
config_trait!(
    /// Config struct of a [`Preferences`].
    PreferencesConfig => Preferences
);
config_trait!(
    /// Config struct of an [`Observer`].
    ObserverConfig => Observer
);
