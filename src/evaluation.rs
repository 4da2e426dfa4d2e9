//! The config of `isr evaluate`.

use std::collections::HashSet;
use std::path::PathBuf;

use isr_chat::ServerConfig;
use isr_config::{Invalid, Validate};
use isr_questions::{Domain, Layout, ScorerConfig, ScorerKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Config of an evaluation: models, question sets, and the scorer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateConfig {
    /// The question sets, the columns of the table. Required.
    #[serde(default)]
    pub sets: Vec<QuestionSetConfig>,
    /// The models, its rows. Each is compared with the first. Required.
    #[serde(default)]
    pub models: Vec<EvaluatedModelConfig>,
    /// The scorer of all sets that name no other. Required.
    pub scoring: ScorerConfig,
    /// How models are asked.
    #[serde(default)]
    pub generation: GenerationConfig,
}

/// One question set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuestionSetConfig {
    /// Name in tables and of folders: letters, digits, `.`, `_` and `-`. Required.
    pub name: String,
    /// The question file: JSON lines, or a JSON array. Required.
    pub questions: PathBuf,
    /// Folder that the videos are in; a video is looked for at its path below it, then at its name alone, with and
    /// without an ending. Default: the folder of the question file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub videos: Option<PathBuf>,
    /// Whether the set is `in` or `out` of the training data's domain, for the table. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// Layout of the file: `llava-hound`, `qa`, `options` or `video-hallucer`. Default: by the keys of its first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// Scorer of this set, in place of `scoring.scorer`. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scorer: Option<ScorerKind>,
}

/// One model: exactly one of `model`, `server` and `predictions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluatedModelConfig {
    /// Name in tables and of folders: letters, digits, `.`, `_` and `-`. Required.
    pub name: String,
    /// A checkpoint folder in the Hugging Face layout, the folder of a PEFT adapter that names its base, or a run
    /// directory, of which the newest checkpoint is taken. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// An OpenAI-compatible server with the model; it is sent `generation.frames` frames as PNG. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerConfig>,
    /// A file of predictions made elsewhere; `{set}` in it stands for a set's name. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predictions: Option<PathBuf>,
}

/// How models are asked: greedily, each question alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GenerationConfig {
    /// Longest answer in tokens, at least 1. Default 1024, as in LLaVA-Hound's scripts.
    pub max_new_tokens: usize,
    /// Frames that are taken of a video, evenly spaced, at least 1. Default 8.
    pub frames: usize,
    /// System prompt. Default none: that of the model's template.
    pub system: Option<String>,
    /// `auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`. Default auto.
    pub device: String,
    /// Type of weights and activations: `float32`, `bfloat16` or `auto`, which on a GPU is that of the checkpoint's weights, on
    /// a CPU float32. Default auto.
    pub precision: String,
    /// Questions under way at once, at least 1. Default 8.
    pub concurrency: usize,
}

impl Default for GenerationConfig {
    fn default() -> Self {
        Self {
            max_new_tokens: 1024,
            frames: 8,
            system: None,
            device: "auto".to_owned(),
            precision: "auto".to_owned(),
            concurrency: 8,
        }
    }
}

impl QuestionSetConfig {
    /// The scorer of this set.
    pub fn scoring(&self, scoring: &ScorerConfig) -> ScorerConfig {
        match self.scorer {
            Some(scorer) if scorer.asks() => ScorerConfig { scorer, ..scoring.clone() },
            Some(scorer) => ScorerConfig { max_words: scoring.max_words, ..ScorerConfig::of(scorer) },
            None => scoring.clone(),
        }
    }
}

impl Validate for EvaluateConfig {
    fn invalid(&self) -> Vec<Invalid> {
        let mut found = Vec::new();
        let mut add = |key: String, reason: String| found.push(Invalid { key, reason });
        for (key, flags, names) in [
            ("sets", "--questions", self.sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>()),
            (
                "models",
                "--model or --predictions",
                self.models.iter().map(|model| model.name.as_str()).collect(),
            ),
        ] {
            if names.is_empty() {
                add(key.to_owned(), format!("is empty; add a [[{key}]], or {flags}"));
            }
            let mut seen = HashSet::new();
            for (index, name) in names.into_iter().enumerate() {
                let key = format!("{key}[{index}].name");
                if !is_name(name) {
                    let must = "it must be letters, digits, `.`, `_` and `-`, not beginning with `.`";
                    add(key, format!("is {name:?}; {must}"));
                } else if !seen.insert(name) {
                    add(key, format!("is {name:?}, as another's; names must differ"));
                }
            }
        }
        for (index, model) in self.models.iter().enumerate() {
            let given = [model.model.is_some(), model.server.is_some(), model.predictions.is_some()];
            if given.into_iter().filter(|given| *given).count() != 1 {
                let must = "must have exactly one of `model`, `server` and `predictions`".to_owned();
                add(format!("models[{index}]"), must);
            }
            if let Some(Err(reason)) = model.server.as_ref().map(|server| server.validate("model")) {
                add(format!("models[{index}].server"), format!("is not valid: {reason}"));
            }
        }
        if let Err(reason) = self.scoring.check() {
            add("scoring".to_owned(), format!("is not valid: {reason}"));
        }
        for (index, set) in self.sets.iter().enumerate().filter(|(_, set)| set.scorer.is_some()) {
            if let Err(reason) = set.scoring(&self.scoring).check() {
                add(format!("sets[{index}].scorer"), format!("is not valid: {reason}"));
            }
        }
        let GenerationConfig { max_new_tokens, frames, concurrency, .. } = self.generation;
        for (key, value) in
            [("max_new_tokens", max_new_tokens), ("frames", frames), ("concurrency", concurrency)]
        {
            if value == 0 {
                add(format!("generation.{key}"), "is 0; it must be at least 1".to_owned());
            }
        }
        found
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(allowed)
}
