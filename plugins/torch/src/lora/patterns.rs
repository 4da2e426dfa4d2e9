//! Choice of modules and their ranks and alphas, by the rules of PEFT (0.21: `check_target_module_exists`,
//! `get_pattern_key`).

use regex::Regex;

use super::config::{LoraConfig, Modules, Targets};

/// Module of the output layer.
const OUTPUT_LAYER: &str = "language_model.lm_head";

/// Compiled choice of the modules that a new adapter adapts.
pub(super) struct Choice {
    targets: Matcher,
    exclude: Option<Matcher>,
    layers: Vec<i64>,
}

enum Matcher {
    /// Every module but the output layer.
    All,
    Names(Vec<String>),
    /// Matches the whole path.
    Pattern(Regex),
}

impl Choice {
    /// Compiles the settings.
    ///
    /// # Errors
    /// An invalid regular expression, with its key.
    pub(super) fn new(config: &LoraConfig) -> Result<Self, String> {
        let whole = |key: &str, pattern: &str| {
            compile(&format!("training.lora.{key}"), pattern, &format!("^(?:{pattern})$"))
        };
        let targets = match &config.targets {
            Targets::All(_) => Matcher::All,
            Targets::Names(names) => Matcher::Names(names.clone()),
            Targets::Pattern(pattern) => Matcher::Pattern(whole("targets", pattern)?),
        };
        let exclude = match &config.exclude {
            None => None,
            Some(Modules::Names(names)) => Some(Matcher::Names(names.clone())),
            Some(Modules::Pattern(pattern)) => Some(Matcher::Pattern(whole("exclude", pattern)?)),
        };
        Ok(Self { targets, exclude, layers: config.layers.clone() })
    }

    /// Returns whether a module is chosen, by its name in this crate and its `path` in the reference implementation.
    pub(super) fn matches(&self, module: &str, path: &str) -> bool {
        let excluded = self.exclude.as_ref().is_some_and(|exclude| exclude.matches(module, path));
        let in_layers =
            self.layers.is_empty() || layer_of(path).is_some_and(|layer| self.layers.contains(&layer));
        !excluded && in_layers && self.targets.matches(module, path)
    }
}

impl Matcher {
    fn matches(&self, module: &str, path: &str) -> bool {
        match self {
            Self::All => module != OUTPUT_LAYER,
            Self::Names(names) => names.iter().any(|name| is_named(module, name) || is_named(path, name)),
            Self::Pattern(pattern) => pattern.is_match(path),
        }
    }
}

/// Returns whether a dotted path is `name` or ends with it.
pub(super) fn is_named(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// Returns the index of the layer that a module is in: the first number behind at least two parts of its path, not at
/// its end.
fn layer_of(path: &str) -> Option<i64> {
    let parts: Vec<&str> = path.split('.').collect();
    let inner = parts.get(2..parts.len().checked_sub(1)?)?;
    inner.iter().find_map(|part| part.parse().ok())
}

/// Rank and scale of each module.
pub(super) struct Scaling {
    rank: i64,
    alpha: f64,
    rslora: bool,
    ranks: ByPattern<i64>,
    alphas: ByPattern<f64>,
}

impl Scaling {
    /// Compiles the patterns of a config.
    ///
    /// # Errors
    /// An invalid regular expression, with its key.
    pub(super) fn new(config: &LoraConfig) -> Result<Self, String> {
        let LoraConfig { rank, alpha, rslora, .. } = *config;
        let ranks =
            ByPattern::new("rank_pattern", config.rank_pattern.iter().map(|(key, rank)| (key, *rank)))?;
        let alphas =
            ByPattern::new("alpha_pattern", config.alpha_pattern.iter().map(|(key, alpha)| (key, *alpha)))?;
        Ok(Self { rank, alpha, rslora, ranks, alphas })
    }

    /// Returns the rank of a module, by its path in the reference implementation.
    pub(super) fn rank(&self, path: &str) -> i64 {
        self.ranks.get(path).unwrap_or(self.rank)
    }

    /// Returns the scale of a module's low-rank update: alpha / rank, or alpha / sqrt(rank) with rsLoRA.
    pub(super) fn scale(&self, path: &str) -> f64 {
        let (rank, alpha) = (self.rank(path) as f64, self.alphas.get(path).unwrap_or(self.alpha));
        alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Returns whether modules may differ in scale.
    pub(super) fn has_patterns(&self) -> bool {
        !(self.ranks.0.is_empty() && self.alphas.0.is_empty())
    }

    /// Returns the first pattern that matches none of `paths`, with its key.
    pub(super) fn unmatched(&self, paths: &[&str]) -> Option<(&'static str, &str)> {
        let of_ranks = self.ranks.unmatched(paths).map(|pattern| ("rank_pattern", pattern));
        of_ranks.or_else(|| self.alphas.unmatched(paths).map(|pattern| ("alpha_pattern", pattern)))
    }
}

/// Values by regular expressions, in the order of their texts, which is that of PEFT's files. The first that matches a
/// path, or its end behind a dot, decides.
struct ByPattern<T>(Vec<(String, Regex, T)>);

impl<T: Copy> ByPattern<T> {
    fn new<'p>(key: &str, patterns: impl Iterator<Item = (&'p String, T)>) -> Result<Self, String> {
        let compiled = patterns.map(|(pattern, value)| {
            let regex =
                compile(&format!("training.lora.{key}"), pattern, &format!(r"^(.*\.)?({pattern})$"))?;
            Ok((pattern.clone(), regex, value))
        });
        Ok(Self(compiled.collect::<Result<_, String>>()?))
    }

    fn get(&self, path: &str) -> Option<T> {
        self.0.iter().find(|(_, regex, _)| regex.is_match(path)).map(|(.., value)| *value)
    }

    fn unmatched(&self, paths: &[&str]) -> Option<&str> {
        let idle = |(_, regex, _): &&(String, Regex, T)| !paths.iter().any(|path| regex.is_match(path));
        self.0.iter().find(idle).map(|(pattern, ..)| pattern.as_str())
    }
}

/// Compiles a regular expression.
///
/// # Errors
/// What Python's `re` knows and this crate's engine does not: look-around and back-references.
fn compile(key: &str, pattern: &str, whole: &str) -> Result<Regex, String> {
    Regex::new(whole).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("{key} has `{pattern}`, which is no regular expression that is supported: {reason}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> LoraConfig {
        serde_json::from_value(json).unwrap()
    }

    fn chosen(json: serde_json::Value, path: &str) -> bool {
        Choice::new(&config(json)).unwrap().matches(path, path)
    }

    #[test]
    fn targets_are_names_at_the_end_of_a_path() {
        for (module, meant) in [
            ("a.q_proj", true),
            ("q_proj", true),
            ("a.xq_proj", false),
            ("a.mlp.fc1", true),
            ("a.fc1", false),
        ] {
            let json = serde_json::json!({ "targets": ["q_proj", "mlp.fc1"] });
            assert_eq!(chosen(json, module), meant, "{module}");
        }
        let all = Choice::new(&LoraConfig::default()).unwrap();
        assert!(all.matches("language_model.model.layers.0.mlp.up_proj", "x"));
        assert!(!all.matches(OUTPUT_LAYER, "lm_head"));
        assert!(chosen(serde_json::json!({ "targets": ["lm_head"] }), OUTPUT_LAYER));
    }

    #[test]
    fn modules_are_chosen_as_by_peft() {
        let path = |layer: i64, name: &str| format!("model.language_model.layers.{layer}.self_attn.{name}");
        // A regular expression matches from start to end.
        let json = serde_json::json!({ "targets": r".*language_model.*\.(q_proj|v_proj)" });
        assert!(chosen(json.clone(), &path(0, "q_proj")) && !chosen(json.clone(), &path(0, "k_proj")));
        assert!(!chosen(json, "model.vision_tower.layers.0.self_attn.q_proj"));
        assert!(!chosen(serde_json::json!({ "targets": "self_attn" }), &path(0, "q_proj")));
        let json = serde_json::json!({ "exclude": ["q_proj"], "targets": ["q_proj", "v_proj"] });
        assert!(!chosen(json.clone(), &path(0, "q_proj")) && chosen(json, &path(0, "v_proj")));
        assert!(!chosen(serde_json::json!({ "exclude": ".*layers.0.*" }), &path(0, "q_proj")));
        let json = serde_json::json!({ "layers": [1, 12], "targets": ["q_proj"] });
        assert!(chosen(json.clone(), &path(12, "q_proj")) && !chosen(json.clone(), &path(2, "q_proj")));
        assert!(!chosen(json, "lm_head.q_proj"), "it is in no layer");
    }

    #[test]
    fn the_first_pattern_that_matches_an_end_of_the_path_decides() {
        let scaling = Scaling::new(&config(serde_json::json!({
            "rank": 8, "alpha": 16.0, "rslora": true,
            "rank_pattern": { "q_proj": 4, r"0\.self_attn\.[qk]_proj": 2 },
            "alpha_pattern": { r"layers\.\d+\.self_attn\.v_proj": 20.0 },
        })))
        .unwrap();
        let path = |layer: i64, name: &str| format!("m.layers.{layer}.self_attn.{name}");
        let rank = |layer, name| scaling.rank(&path(layer, name));
        assert_eq!(
            [rank(0, "q_proj"), rank(1, "q_proj"), rank(0, "xq_proj"), rank(10, "k_proj")],
            [2, 4, 8, 8]
        );
        assert_eq!(scaling.scale(&path(1, "q_proj")), 16.0 / 2.0);
        assert_eq!(scaling.scale(&path(1, "v_proj")), 20.0 / 8.0_f64.sqrt());
        assert_eq!(scaling.unmatched(&[&path(1, "q_proj")]).unwrap().0, "rank_pattern");
    }

    #[test]
    fn expressions_that_are_not_supported_are_named() {
        for json in [serde_json::json!({ "targets": "(?!x).*" }), serde_json::json!({ "exclude": "(" })] {
            let error = Choice::new(&config(json)).err().unwrap();
            assert!(error.contains("training.lora.") && error.contains("regular expression"), "{error}");
        }
        let error = Scaling::new(&config(serde_json::json!({ "rank_pattern": { "[": 1 } }))).err().unwrap();
        assert!(error.contains("rank_pattern has `[`"), "{error}");
    }
}
