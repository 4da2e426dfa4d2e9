//! [`RunConfig`], the config of `isr run`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evaluation::EvaluationConfig;
use super::iteration::LoopConfig;
use super::train::{ReferenceSource, TrainConfig};
use super::validate::{Checks, Invalid, Validate, keys};
use crate::plugin::PluginFile;
use crate::registry::{
    DataConfig, EncoderConfig, EvaluatorConfig, JudgeConfig, ObjectiveConfig, ObserverConfig, PolicyConfig,
    RetrospectorConfig, SamplerConfig, SelectionConfig, ValueConfig, VideoConfig,
};

/// Config of one run: its components and the hyperparameters of the loop.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// Name of the run and of its directory: letters, digits, `.`, `_` and `-`. Default "run".
    #[serde(default = "default_name")]
    pub name: String,
    /// Run seed, from which all random streams derive. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// Plugin files: paths, or tables with a `path` and limits. Their components are selected by name like
    /// built-in ones. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginFile>,
    /// Source of training and evaluation samples.
    pub data: Box<dyn DataConfig>,
    /// Video decoding and frame sampling.
    pub video: Box<dyn VideoConfig>,
    /// Frozen vision tower that computes visual features. Default: the encoder of the policy's own checkpoint, whose
    /// weights are then in memory once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Box<dyn EncoderConfig>>,
    /// Model to align.
    pub policy: Box<dyn PolicyConfig>,
    /// Inference engine that samples responses, contexts and written verdicts in the policy's place, with its weights; needs
    /// `train.reference = "recompute"`. Default none: the policy samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Box<dyn SamplerConfig>>,
    /// Writer of the visual contexts that the judge reads. Default none: the judge reads no context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrospector: Option<Box<dyn RetrospectorConfig>>,
    /// Pairwise judge of responses.
    pub judge: Box<dyn JudgeConfig>,
    /// Preference loss.
    pub objective: Box<dyn ObjectiveConfig>,
    /// Rule that turns verdicts into preference pairs.
    pub selection: Box<dyn SelectionConfig>,
    /// Metrics of responses to held-out samples. Default none: no evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluator: Option<Box<dyn EvaluatorConfig>>,
    /// Experiment trackers and other observers, one table each. Results do not depend on them. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observers: Vec<Box<dyn ObserverConfig>>,
    /// Iterations and sampling.
    #[serde(default)]
    pub r#loop: LoopConfig,
    /// Training in each iteration.
    #[serde(default)]
    pub train: TrainConfig,
    /// Evaluation after each iteration.
    #[serde(default)]
    pub evaluation: EvaluationConfig,
}

/// A config to be completed in code: no component is chosen yet ([`ValueConfig`] stands in each required section),
/// and all numbers have their defaults.
impl Default for RunConfig {
    fn default() -> Self {
        let open = ValueConfig::default;
        Self {
            name: default_name(),
            seed: 0,
            plugins: Vec::new(),
            data: Box::new(open()),
            video: Box::new(open()),
            encoder: None,
            policy: Box::new(open()),
            sampler: None,
            retrospector: None,
            judge: Box::new(open()),
            objective: Box::new(open()),
            selection: Box::new(open()),
            evaluator: None,
            observers: Vec::new(),
            r#loop: LoopConfig::default(),
            train: TrainConfig::default(),
            evaluation: EvaluationConfig::default(),
        }
    }
}

fn default_name() -> String {
    "run".to_owned()
}

/// Adds the result of a component's `validate` under its section.
macro_rules! check_component {
    ($checks:ident, $section:literal, $component:expr) => {
        $checks.part($section, &keys($component), $component.validate())
    };
}

impl Validate for RunConfig {
    fn invalid(&self) -> Vec<Invalid> {
        let mut checks = Checks::of("");
        let allowed = "letters, digits, `.`, `_` and `-`, not beginning with `.`";
        checks.require(is_name(&self.name), "name", format_args!("{:?}", self.name), allowed);
        check_component!(checks, "data", &self.data);
        check_component!(checks, "video", &self.video);
        if let Some(encoder) = &self.encoder {
            check_component!(checks, "encoder", encoder);
        }
        check_component!(checks, "policy", &self.policy);
        if let Some(sampler) = &self.sampler {
            check_component!(checks, "sampler", sampler);
            let is_recomputed = self.train.reference == ReferenceSource::Recompute;
            let rule = "\"recompute\" with a sampler, whose log-probs are not the policy's";
            checks.require(is_recomputed, "train.reference", "\"recorded\"", rule);
        }
        if let Some(retrospector) = &self.retrospector {
            check_component!(checks, "retrospector", retrospector);
        }
        check_component!(checks, "judge", &self.judge);
        check_component!(checks, "objective", &self.objective);
        check_component!(checks, "selection", &self.selection);
        if let Some(evaluator) = &self.evaluator {
            check_component!(checks, "evaluator", evaluator);
        }
        for observer in &self.observers {
            check_component!(checks, "observers", observer);
        }
        [checks.done(), self.r#loop.invalid(), self.train.invalid(), self.evaluation.invalid()].concat()
    }
}

/// Whether the text is a valid directory name on every operating system.
fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && !text.starts_with('.') && text.chars().all(allowed)
}
