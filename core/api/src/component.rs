//! How a component is configured, built and listed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Cause;

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

/// What a component may use while it is built.
#[derive(Clone, Debug, Default)]
pub struct BuildContext {
    /// The whole resolved config as JSON, for defaults that follow another component's setting, as
    /// `encoder.model` follows `policy.model`. Null outside a run.
    pub config: Value,
}

impl BuildContext {
    /// A text setting by JSON pointer (`/policy/model`).
    pub fn setting(&self, pointer: &str) -> Option<&str> {
        self.config.pointer(pointer).and_then(Value::as_str)
    }
}

/// A component's config: data that is validated, and then builds the runtime object.
pub trait Component {
    /// The runtime object: `Arc<dyn Judge>` and the like.
    type Built;

    /// Names the first value that is out of range, and what it may be. Called before any work.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// Builds the runtime object.
    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause>;
}

/// A component as it is listed and described.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// What it is; an encoder, policy, retrospector, judge or objective for a plugin.
    pub kind: Kind,
    /// The value of `type` in the config: letters in lower case, digits, `_` and `-`.
    pub name: String,
    /// Version of the plugin.
    #[serde(default)]
    pub version: String,
    /// What it does. The first sentence stands in lists.
    pub help: String,
    /// JSON schema (draft 2020-12) of its settings, an object; `type` excluded. It may refer to
    /// `#/$defs/...`.
    #[serde(default = "no_settings")]
    pub schema: Value,
    /// TOML body of a valid section, without the `type` line.
    #[serde(default)]
    pub example: String,
    /// Optional capabilities that it uses or offers.
    #[serde(default)]
    pub features: Vec<String>,
}

fn no_settings() -> Value {
    serde_json::json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

impl Manifest {
    /// The first sentence of the help.
    pub fn summary(&self) -> String {
        first_sentence(&self.help)
    }
}

/// The first sentence of a doc comment, on one line.
pub fn first_sentence(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    match paragraph.find(". ") {
        Some(end) => paragraph[..=end].to_owned(),
        None => paragraph,
    }
}
