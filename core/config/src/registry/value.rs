//! Components that a program gives as values.

use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Evaluator, Judge, Policy, PreferenceObjective, Retrospector, SampleSource,
    Selection, VideoEncoder, VideoReader,
};
use serde::{Deserialize, Serialize};

use super::kinds::{
    DataConfig, EncoderConfig, EvaluatorConfig, JudgeConfig, ObjectiveConfig, PolicyConfig,
    RetrospectorConfig, SelectionConfig, VideoConfig,
};

/// Placeholder for a component that a program gives as a value: `{ type = "value", name = "MyJudge" }`.
///
/// It stands in the records of a run where a section of a config would stand, cannot be built, and cannot be
/// named by a config file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueConfig {
    /// Name of the component for records; empty where a component is yet to be chosen.
    pub name: String,
}

impl ValueConfig {
    /// A placeholder of that name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    fn unbuildable(&self) -> Cause {
        match self.name.as_str() {
            "" => "the config names none, and the program gave none".into(),
            name => format!(
                "`{name}` was a value of the program that started the run; start it by that program, which gives \
                 the component again"
            )
            .into(),
        }
    }
}

macro_rules! placeholder {
    ($($config:ident => $built:ident),+ $(,)?) => {
        $(
            #[typetag::serde(name = "value")]
            impl $config for ValueConfig {
                fn name(&self) -> &str {
                    &self.name
                }
                fn validate(&self) -> Result<(), String> {
                    Ok(())
                }
                fn build(&self, _: &BuildContext) -> Result<Arc<dyn $built>, Cause> {
                    Err(self.unbuildable())
                }
            }
        )+
    };
}

placeholder!(
    DataConfig => SampleSource,
    VideoConfig => VideoReader,
    EncoderConfig => VideoEncoder,
    PolicyConfig => Policy,
    RetrospectorConfig => Retrospector,
    JudgeConfig => Judge,
    ObjectiveConfig => PreferenceObjective,
    SelectionConfig => Selection,
    EvaluatorConfig => Evaluator,
);
