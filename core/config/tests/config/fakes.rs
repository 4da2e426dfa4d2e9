//! Components that exist only in these tests; between them they use every shape that a config may have.

use std::collections::BTreeMap;
use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Component, Evaluator, Judge, Policy, PreferenceObjective, Retrospector,
    SampleSource, Selection, VideoEncoder, VideoReader,
};
use isr_config::register;
use isr_config::registry::JudgeConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fakes_runtime::Fake;

macro_rules! fake {
    ($kind:ident $name:literal => $config:ident: $built:ident, $example:literal) => {
        impl Component for $config {
            type Built = Arc<dyn $built>;
            fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
                Ok(Arc::new(Fake))
            }
        }
        register!($kind $name => $config, example = $example);
    };
}

/// Samples from a list.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListConfig {
    /// The list. One JSON object a line.
    path: String,
    /// Renames fields.
    #[serde(default)]
    fields: BTreeMap<String, String>,
    /// Width and height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<(u32, u32)>,
}
fake!(Data "list" => ListConfig: SampleSource, "path = \"samples.jsonl\"\n");

/// Frames at even distances.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct FramesConfig {
    /// How many.
    frames: u8,
    /// How frames are made square.
    fit: Fit,
}

/// A choice with another tag than `type`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "how", rename_all = "lowercase", deny_unknown_fields)]
enum Fit {
    /// Cuts the edges off.
    Crop {},
    /// Adds bars.
    Pad {
        /// Red, green and blue.
        colour: [u8; 3],
    },
}

impl Default for FramesConfig {
    fn default() -> Self {
        Self { frames: 8, fit: Fit::Crop {} }
    }
}
fake!(Video "frames" => FramesConfig: VideoReader, "");

/// Follows the policy.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FollowsConfig {
    /// A choice without a tag.
    #[serde(default = "all_layers")]
    layers: Layers,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Layers {
    Count(i32),
    Named(Vec<String>),
}

fn all_layers() -> Layers {
    Layers::Count(-1)
}
fake!(Encoder "follows" => FollowsConfig: VideoEncoder, "");

/// A tiny policy.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TinyConfig {
    /// Directory of the weights. In Hugging Face layout.
    model: String,
    /// Adapter rank; none trains all weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lora: Option<LoraConfig>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LoraConfig {
    /// Rank.
    rank: usize,
    /// Scale.
    #[serde(default)]
    alpha: f32,
}
fake!(Policy "tiny" => TinyConfig: Policy, "model = \"weights\"\n");

/// A policy that is missing its library.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BrokenConfig {}

impl Component for BrokenConfig {
    type Built = Arc<dyn Policy>;
    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Err("libtorch is not installed".into())
    }
}
register!(Policy "broken" => BrokenConfig, example = "");

/// Writes contexts.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ContextConfig {
    /// Longest context in tokens.
    #[serde(default)]
    max_new_tokens: usize,
}
fake!(Retrospector "self" => ContextConfig: Retrospector, "");

/// The policy judges itself.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SelfJudgeConfig {
    /// Least probability of a clear verdict. In [0.5, 1].
    #[serde(default = "half")]
    threshold: f64,
}

fn half() -> f64 {
    0.5
}

impl Component for SelfJudgeConfig {
    type Built = Arc<dyn Judge>;
    fn validate(&self) -> Result<(), String> {
        if (0.5..=1.0).contains(&self.threshold) {
            return Ok(());
        }
        Err(format!("threshold is {}; it must be in [0.5, 1]", self.threshold))
    }
    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(Fake))
    }
}
register!(Judge "self" => SelfJudgeConfig, example = "threshold = 0.6\n");

/// Several judges vote.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VoteConfig {
    /// Who votes.
    members: Vec<Box<dyn JudgeConfig>>,
    /// Who decides a tie. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    referee: Option<Box<dyn JudgeConfig>>,
}
fake!(Judge "vote" => VoteConfig: Judge, "members = [{ type = \"self\" }]\n");

/// Direct preference optimisation.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct DpoConfig {
    /// Strength of the pull to the reference.
    beta: f64,
    /// Form of the loss.
    form: Form,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Form {
    /// Log-sigmoid.
    Sigmoid,
    Hinge,
    /// Squared.
    Ipo,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self { beta: 0.1, form: Form::Sigmoid }
    }
}
fake!(Objective "dpo" => DpoConfig: PreferenceObjective, "beta = 0.1\n");

/// Keeps every pair.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AllConfig {}
fake!(Selection "all" => AllConfig: Selection, "");

/// Compares words.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WordsConfig {}
fake!(Evaluator "words" => WordsConfig: Evaluator, "");
