//! The registry of components that a config can select.
//!
//! A component is declared once, next to its code: a documented config struct that implements
//! [`Component`](isr_api::Component), and one line of [`register!`](crate::register). Listing, help text, JSON
//! schema and deserialisation derive from these.
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait;
//! use isr_api::{BuildContext, Component};
//! use isr_api::{Cause, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! /// Prefers the longer answer.
//! #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields)]
//! struct LengthJudgeConfig {}
//!
//! struct LengthJudge;
//!
//! #[async_trait]
//! impl Judge for LengthJudge {
//!     async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
//!         let longer = case.first.token_ids.len() > case.second.token_ids.len();
//!         Ok(Verdict::of(if longer { 1.0 } else { 0.0 }))
//!     }
//! }
//!
//! impl Component for LengthJudgeConfig {
//!     type Built = Arc<dyn Judge>;
//!     fn build(&self, _: &BuildContext) -> Result<Arc<dyn Judge>, Cause> {
//!         Ok(Arc::new(LengthJudge))
//!     }
//! }
//!
//! isr_config::register!(Judge "longest" => LengthJudgeConfig, example = "");
//!
//! let config: Box<dyn isr_config::registry::JudgeConfig> =
//!     serde_json::from_str(r#"{"type": "longest"}"#).unwrap();
//! assert!(config.build(&BuildContext::default()).is_ok());
//! ```

mod entry;
mod kinds;
mod value;

pub use entry::{Entry, entries, find};
pub use kinds::{
    DataConfig, DemonstrationsConfig, EncoderConfig, EvaluatorConfig, JudgeConfig, ObjectiveConfig,
    ObserverConfig, PolicyConfig, PreferencesConfig, RetrospectorConfig, SamplerConfig, SelectionConfig,
    VideoConfig,
};
pub use value::ValueConfig;

/// Registers a component: `register!(Judge "name" => ConfigStruct, example = "key = 1\n")`.
///
/// The kind is a variant of [`Kind`](isr_api::Kind). The struct implements [`Component`](isr_api::Component),
/// `Debug`, `Serialize`, `Deserialize` and `JsonSchema`; its doc comment is the component's help text. The example
/// is the TOML body of a valid section, without `type`. The macro needs no other crate in scope.
#[macro_export]
macro_rules! register {
    (Demonstrations $($rest:tt)*) => { $crate::__register!(Demonstrations, DemonstrationsConfig, ::std::sync::Arc<dyn $crate::__private::api::Demonstrations>, $($rest)*); };
    (Preferences $($rest:tt)*) => { $crate::__register!(Preferences, PreferencesConfig, ::std::sync::Arc<dyn $crate::__private::api::Preferences>, $($rest)*); };
    (Observer $($rest:tt)*) => { $crate::__register!(Observer, ObserverConfig, ::std::sync::Arc<dyn $crate::__private::api::Observer>, $($rest)*); };
    (Data $($rest:tt)*) => { $crate::__register!(Data, DataConfig, ::std::sync::Arc<dyn $crate::__private::api::SampleSource>, $($rest)*); };
    (Video $($rest:tt)*) => { $crate::__register!(Video, VideoConfig, ::std::sync::Arc<dyn $crate::__private::api::VideoReader>, $($rest)*); };
    (Encoder $($rest:tt)*) => { $crate::__register!(Encoder, EncoderConfig, ::std::sync::Arc<dyn $crate::__private::api::VideoEncoder>, $($rest)*); };
    (Policy $($rest:tt)*) => { $crate::__register!(Policy, PolicyConfig, ::std::sync::Arc<dyn $crate::__private::api::Policy>, $($rest)*); };
    (Sampler $($rest:tt)*) => { $crate::__register!(Sampler, SamplerConfig, ::std::sync::Arc<dyn $crate::__private::api::Sampler>, $($rest)*); };
    (Retrospector $($rest:tt)*) => { $crate::__register!(Retrospector, RetrospectorConfig, ::std::sync::Arc<dyn $crate::__private::api::Retrospector>, $($rest)*); };
    (Judge $($rest:tt)*) => { $crate::__register!(Judge, JudgeConfig, ::std::sync::Arc<dyn $crate::__private::api::Judge>, $($rest)*); };
    (Objective $($rest:tt)*) => { $crate::__register!(Objective, ObjectiveConfig, ::std::sync::Arc<dyn $crate::__private::api::PreferenceObjective>, $($rest)*); };
    (Selection $($rest:tt)*) => { $crate::__register!(Selection, SelectionConfig, ::std::sync::Arc<dyn $crate::__private::api::Selection>, $($rest)*); };
    (Evaluator $($rest:tt)*) => { $crate::__register!(Evaluator, EvaluatorConfig, ::std::sync::Arc<dyn $crate::__private::api::Evaluator>, $($rest)*); };
}

/// The part of [`register!`] that all kinds share.
#[doc(hidden)]
#[macro_export]
macro_rules! __register {
    ($kind:ident, $config:ident, $built:ty, $name:literal => $type:ty, example = $example:expr $(,)?) => {
        const _: () = {
            use $crate::__private::typetag;

            #[typetag::serde(name = $name)]
            impl $crate::registry::$config for $type {
                fn name(&self) -> &'static str {
                    $name
                }
                fn validate(&self) -> ::std::result::Result<(), ::std::string::String> {
                    $crate::__private::api::Component::validate(self)
                }
                fn build(
                    &self,
                    cx: &$crate::__private::api::BuildContext,
                ) -> ::std::result::Result<$built, $crate::__private::api::Cause> {
                    $crate::__private::api::Component::build(self, cx)
                }
            }

            $crate::__private::inventory::submit! {
                $crate::registry::Entry {
                    kind: $crate::__private::api::Kind::$kind,
                    name: $name,
                    example: $example,
                    schema: || $crate::__private::schemars::schema_for!($type),
                    subschema: <$type as $crate::__private::schemars::JsonSchema>::json_schema,
                }
            }
        };
    };
}
