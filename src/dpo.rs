//! `isr dpo`: preference training on pairs that exist already, as a run of one iteration whose pairs all come from data.

use std::path::PathBuf;
use std::sync::Arc;

use isr_api::Sampling;
use isr_config::plugin::PluginFile;
use isr_config::registry::{
    DataConfig, EncoderConfig, EvaluatorConfig, ObjectiveConfig, ObserverConfig, PolicyConfig, ValueConfig,
    VideoConfig,
};
use isr_config::{
    EvaluationConfig, Invalid, LoopConfig, MixConfig, PreferencesSection, RunConfig, TrainConfig, Validate,
};
use isr_run::{ComponentValues, OfflineOnly};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::components::invalid_part;

/// Config of one preference training on a dataset of pairs.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DpoRunConfig {
    /// Name of the run and of its directory. Default "dpo".
    #[serde(default = "default_name")]
    pub name: String,
    /// Run seed, from which all random streams derive. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// Plugin files: paths, or tables with a `path` and limits. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginFile>,
    /// Dataset of preference pairs.
    pub preferences: PreferencesSection,
    /// Held-out samples for the evaluator; its training samples are not used. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<dyn DataConfig>>,
    /// Video decoding and frame sampling.
    pub video: Box<dyn VideoConfig>,
    /// Frozen vision tower that computes visual features. Default: the encoder of the policy's own checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Box<dyn EncoderConfig>>,
    /// Model to align; before training it is the reference policy.
    pub policy: Box<dyn PolicyConfig>,
    /// Preference loss.
    pub objective: Box<dyn ObjectiveConfig>,
    /// Metrics of responses to held-out samples of `data`. Default none: no evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluator: Option<Box<dyn EvaluatorConfig>>,
    /// Experiment trackers and other observers, one table each. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observers: Vec<Box<dyn ObserverConfig>>,
    /// Scoring of the pairs under the reference policy, and caches.
    #[serde(default)]
    pub r#loop: ScoringConfig,
    /// Training.
    #[serde(default)]
    pub train: TrainConfig,
    /// Evaluation before and after training.
    #[serde(default)]
    pub evaluation: EvaluationConfig,
}

/// Scoring of a dataset's pairs, and caches: the keys of `[loop]` that a training on data alone reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScoringConfig {
    /// Number of pairs, drawn without replacement. Default all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Sampling parameters of responses to held-out samples; without an evaluator nothing is sampled.
    pub sampling: Sampling,
    /// Number of pairs processed concurrently. Results do not depend on it. Default 32.
    pub concurrency: usize,
    /// Share of the dataset's rows, in [0, 1], that may be quarantined before the run stops with an error. Default 0.1.
    pub quarantine_limit: f64,
    /// Memory for decoded frames and visual features, in MiB, as of `isr run`. Default 1024.
    pub feature_cache_mb: usize,
    /// Directory of the on-disk cache of visual features; `auto` is `isr-dpo/features` in the user's cache directory.
    /// Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feature_cache_dir: Option<PathBuf>,
    /// Size limit of that directory, in GiB. Default 20.
    pub feature_cache_gb: f64,
}

impl Default for ScoringConfig {
    fn default() -> Self {
        let of_loop = LoopConfig::default();
        Self {
            samples: of_loop.samples,
            sampling: of_loop.sampling,
            concurrency: of_loop.concurrency,
            quarantine_limit: of_loop.quarantine_limit,
            feature_cache_mb: of_loop.feature_cache_mb,
            feature_cache_dir: of_loop.feature_cache_dir,
            feature_cache_gb: of_loop.feature_cache_gb,
        }
    }
}

fn default_name() -> String {
    "dpo".to_owned()
}

impl Validate for DpoRunConfig {
    fn invalid(&self) -> Vec<Invalid> {
        let components = [
            ("video", self.video.validate()),
            ("policy", self.policy.validate()),
            ("objective", self.objective.validate()),
            ("data", self.data.as_ref().map_or(Ok(()), |data| data.validate())),
            ("encoder", self.encoder.as_ref().map_or(Ok(()), |encoder| encoder.validate())),
            ("evaluator", self.evaluator.as_ref().map_or(Ok(()), |evaluator| evaluator.validate())),
        ];
        let observers = self.observers.iter().map(|observer| ("observers", observer.validate()));
        let failed = components.into_iter().chain(observers);
        let failed = failed.filter_map(|(section, result)| Some(invalid_part(section, &result.err()?)));
        // The rest as of the run that it stands for, whose `loop.mix[0].preferences` is `preferences` here.
        let rest = RunConfig {
            name: self.name.clone(),
            r#loop: self.r#loop.clone().of_one_iteration(self.preferences.clone()),
            train: self.train.clone(),
            evaluation: self.evaluation.clone(),
            ..RunConfig::default()
        };
        let renamed = |invalid: Invalid| {
            let key = invalid.key.replace("loop.mix[0].preferences", "preferences");
            Invalid { key, ..invalid }
        };
        failed.chain(rest.invalid().into_iter().map(renamed)).collect()
    }
}

impl ScoringConfig {
    /// `[loop]` of one iteration whose pairs are all of this dataset.
    fn of_one_iteration(self, preferences: PreferencesSection) -> LoopConfig {
        let Self {
            samples,
            sampling,
            concurrency,
            quarantine_limit,
            feature_cache_mb,
            feature_cache_dir,
            feature_cache_gb,
        } = self;
        LoopConfig {
            iterations: 1,
            mix: vec![MixConfig { preferences, share: 1.0, iterations: Vec::new() }],
            samples,
            sampling,
            concurrency,
            quarantine_limit,
            feature_cache_mb,
            feature_cache_dir,
            feature_cache_gb,
            ..LoopConfig::default()
        }
    }
}

impl DpoRunConfig {
    /// The run of one iteration that it stands for. Placeholders are in the sections that it does not have.
    pub(crate) fn into_run(self) -> RunConfig {
        let none = || Box::new(ValueConfig::named("none"));
        RunConfig {
            name: self.name,
            seed: self.seed,
            plugins: self.plugins,
            data: self.data.unwrap_or_else(|| none()),
            video: self.video,
            encoder: self.encoder,
            policy: self.policy,
            sampler: None,
            retrospector: None,
            judge: none(),
            objective: self.objective,
            selection: none(),
            evaluator: self.evaluator,
            observers: self.observers,
            r#loop: self.r#loop.of_one_iteration(self.preferences),
            train: self.train,
            evaluation: self.evaluation,
        }
    }

    /// What stands for the components that it does not name.
    pub(crate) fn values(&self) -> ComponentValues {
        let unused = Arc::new(OfflineOnly);
        ComponentValues {
            data: self.data.is_none().then(|| unused.clone() as Arc<_>),
            judge: Some(unused.clone()),
            selection: Some(unused),
            ..ComponentValues::default()
        }
    }
}
