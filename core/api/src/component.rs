//! Configuration of components: the kinds, the trait of a config struct, and the manifest for listings.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Cause;

/// A kind of component. Its lower-case name is the section of the config that selects one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// A [`SampleSource`](crate::SampleSource).
    Data,
    /// A [`VideoReader`](crate::VideoReader).
    Video,
    /// A [`VideoEncoder`](crate::VideoEncoder).
    Encoder,
    /// A [`Policy`](crate::Policy).
    Policy,
    /// A [`Sampler`](crate::Sampler).
    Sampler,
    /// A [`Retrospector`](crate::Retrospector).
    Retrospector,
    /// A [`Judge`](crate::Judge).
    Judge,
    /// A [`PreferenceObjective`](crate::PreferenceObjective).
    Objective,
    /// A [`Selection`](crate::Selection) of preference pairs.
    Selection,
    /// An [`Evaluator`](crate::Evaluator).
    Evaluator,
    /// A set of [`Demonstrations`](crate::Demonstrations) for supervised fine-tuning.
    Demonstrations,
    /// A set of [`Preferences`](crate::Preferences) for preference training.
    Preferences,
    /// An [`Observer`](crate::Observer). The only kind of which a config may select several.
    Observer,
}

impl Kind {
    /// All kinds, in the order of a config's sections.
    pub const ALL: [Self; 13] = [
        Self::Data,
        Self::Video,
        Self::Encoder,
        Self::Policy,
        Self::Sampler,
        Self::Retrospector,
        Self::Judge,
        Self::Objective,
        Self::Selection,
        Self::Evaluator,
        Self::Demonstrations,
        Self::Preferences,
        Self::Observer,
    ];

    /// Returns the config section: `judge`, `policy`, and so on; `observers` for [`Kind::Observer`].
    pub fn section(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Video => "video",
            Self::Encoder => "encoder",
            Self::Policy => "policy",
            Self::Sampler => "sampler",
            Self::Retrospector => "retrospector",
            Self::Judge => "judge",
            Self::Objective => "objective",
            Self::Selection => "selection",
            Self::Evaluator => "evaluator",
            Self::Demonstrations => "demonstrations",
            Self::Preferences => "preferences",
            Self::Observer => "observers",
        }
    }
}

/// What [`Component::build`] may read besides the component's own config.
#[derive(Clone, Debug, Default)]
pub struct BuildContext {
    /// The resolved config of the whole run as JSON, defaults included; null outside a run. Read it for
    /// defaults that follow another component, as `encoder.model` follows `policy.model`.
    pub config: Value,
}

impl BuildContext {
    /// Returns the string at a JSON pointer (`/policy/model`) into [`config`](Self::config); `None` where there
    /// is none.
    pub fn setting(&self, pointer: &str) -> Option<&str> {
        self.config.pointer(pointer).and_then(Value::as_str)
    }
}

/// The config struct of a component: plain data that validates itself and builds the runtime object.
///
/// Derive `Deserialize` and `JsonSchema` for it with `#[serde(deny_unknown_fields)]`. Its doc comment is the
/// component's help text, the doc comments of its fields are the help texts of its keys.
pub trait Component {
    /// The runtime object: `Arc<dyn Judge>`, `Arc<dyn Policy>`, ...
    type Built;

    /// Checks the ranges of values; runs when the config is loaded, before anything is built.
    ///
    /// # Errors
    /// One message, which begins with the key: `beta is 0; it must be more than 0`.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// Builds the runtime object: loads weights, opens files, connects.
    ///
    /// # Errors
    /// Any error; the run reports it as [`Error::Build`](crate::Error::Build) with section and name.
    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause>;
}

/// Description of a component for listings, help texts and config checks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Kind of the component. A plugin file may provide encoders, policies, retrospectors, judges and objectives; one
    /// in Python, also data, evaluators, demonstrations, preferences and observers.
    pub kind: Kind,
    /// Name that selects it: the value of `type` in its config section. 1 to 64 lower-case letters, digits, `_`
    /// and `-`, beginning with a letter.
    pub name: String,
    /// Version of the plugin; empty for a built-in component.
    #[serde(default)]
    pub version: String,
    /// Help text in Markdown. Listings show the first sentence.
    pub help: String,
    /// JSON schema (draft 2020-12) of the config section without `type`. An object; references may only point
    /// into its own `#/$defs/`. Default: an object without properties.
    #[serde(default = "no_settings")]
    pub schema: Value,
    /// TOML body of a valid config section, without the `type` line. Default: empty.
    #[serde(default)]
    pub example: String,
    /// Optional capabilities that the component uses or offers. Default: none.
    #[serde(default)]
    pub features: Vec<String>,
}

fn no_settings() -> Value {
    serde_json::json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

impl Manifest {
    /// Returns the first sentence of the help text, on one line.
    pub fn summary(&self) -> String {
        first_sentence(&self.help)
    }
}

/// Returns the first sentence of a doc comment, on one line.
pub fn first_sentence(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    match paragraph.find(". ") {
        Some(end) => paragraph[..=end].to_owned(),
        None => paragraph,
    }
}
