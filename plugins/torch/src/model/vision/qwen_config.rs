//! `vision_config` of Qwen2-VL, Qwen2.5-VL and Qwen3-VL, and the tensors that it requires.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::model::activation::Activation;
use crate::model::section::{HEADS, LAYERS, WIDTH, check_object, check_sizes, with_defaults};

/// Prefix of the tower's tensors, without the dot.
pub(super) const PREFIX: &str = "visual";

/// Shape of a Qwen-VL tower.
///
/// The `Debug` form is part of the encoder's fingerprint and must not change.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct QwenVision {
    /// Number of layers.
    pub(crate) depth: i64,
    /// Width of the residual stream.
    pub(crate) hidden_size: i64,
    pub(super) intermediate_size: i64,
    pub(super) num_heads: i64,
    pub(super) hidden_act: Activation,
    /// Side of a patch in pixels.
    pub(crate) patch_size: i64,
    /// Frames in a patch.
    pub(crate) temporal_patch_size: i64,
    /// Patches along a side of the square that is merged to one feature.
    pub(crate) spatial_merge_size: i64,
    /// Width of a feature.
    pub(crate) out_hidden_size: i64,
    /// Positions per second on the time axis (Qwen2.5-VL).
    #[serde(default)]
    pub(crate) tokens_per_second: i64,
    /// Side of an attention window in pixels (Qwen2.5-VL).
    pub(super) window_size: Option<i64>,
    #[serde(default)]
    pub(super) fullatt_block_indexes: Vec<i64>,
    /// Rows of the learned position table (Qwen3-VL).
    pub(super) num_position_embeddings: Option<i64>,
    #[serde(default)]
    pub(super) deepstack_visual_indexes: Vec<i64>,
    pub(super) rope_parameters: Option<Value>,
}

impl QwenVision {
    /// Prefix of the tower's tensors, dot included.
    pub(crate) const PREFIX: &'static str = "visual.";

    /// Parses `vision_config` of Qwen2-VL, whose `hidden_size` is the decoder's width, and `embed_dim` that of the tower.
    pub(crate) fn qwen2(section: &Value) -> std::result::Result<Self, String> {
        check_object("vision_config", section)?;
        let own = with_defaults(section, json!({ "embed_dim": 1280, "hidden_size": 3584, "mlp_ratio": 4 }));
        let integer =
            |key: &str| own[key].as_i64().ok_or_else(|| format!("vision_config.{key} is no integer"));
        let (width, out) = (integer("embed_dim")?, integer("hidden_size")?);
        let ratio = own["mlp_ratio"].as_f64().ok_or("vision_config.mlp_ratio is no number")?;
        check_sizes("vision_config", &[("embed_dim", width, WIDTH), ("hidden_size", out, WIDTH)])?;
        let defaults = json!({
            "depth": 32, "num_heads": 16, "hidden_act": "quick_gelu", "patch_size": 14,
            "temporal_patch_size": 2, "spatial_merge_size": 2,
        });
        let mut given = section.clone();
        given["hidden_size"] = json!(width);
        given["intermediate_size"] = json!((width as f64 * ratio) as i64);
        given["out_hidden_size"] = json!(out);
        let foreign = [
            "window_size",
            "fullatt_block_indexes",
            "tokens_per_second",
            "num_position_embeddings",
            "deepstack_visual_indexes",
        ];
        Self::parse(&given, defaults, &foreign)
    }

    /// Parses `vision_config` of Qwen2.5-VL.
    pub(crate) fn qwen2_5(section: &Value) -> std::result::Result<Self, String> {
        let defaults = json!({
            "depth": 32, "hidden_size": 3584, "intermediate_size": 3420, "num_heads": 16,
            "hidden_act": "silu", "patch_size": 14, "temporal_patch_size": 2, "spatial_merge_size": 2,
            "out_hidden_size": 3584, "tokens_per_second": 4, "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
        });
        Self::parse(section, defaults, &["num_position_embeddings", "deepstack_visual_indexes"])
    }

    /// Parses `vision_config` of Qwen3-VL.
    pub(crate) fn qwen3(section: &Value) -> std::result::Result<Self, String> {
        let defaults = json!({
            "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16,
            "hidden_act": "gelu_pytorch_tanh", "patch_size": 16, "temporal_patch_size": 2,
            "spatial_merge_size": 2, "out_hidden_size": 3584, "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
        });
        Self::parse(section, defaults, &["window_size", "fullatt_block_indexes", "tokens_per_second"])
    }

    fn parse(section: &Value, defaults: Value, foreign: &[&str]) -> std::result::Result<Self, String> {
        check_object("vision_config", section)?;
        let mut merged = with_defaults(section, defaults);
        if let Value::Object(entries) = &mut merged {
            entries.retain(|name, _| !foreign.contains(&name.as_str()));
        }
        let config: Self =
            serde_json::from_value(merged).map_err(|error| format!("vision_config: {error}"))?;
        config.check_sizes()?;
        let mut deep = config.deepstack_visual_indexes.clone();
        deep.sort_unstable();
        deep.dedup();
        if deep.len() as i64 != config.deep_levels()
            || deep.iter().any(|at| !(0..config.depth).contains(at))
        {
            let text = format!("{:?} are not distinct layers", config.deepstack_visual_indexes);
            return Err(format!("vision_config: deepstack_visual_indexes {text}"));
        }
        Ok(config)
    }

    fn check_sizes(&self) -> std::result::Result<(), String> {
        let section = "vision_config";
        check_sizes(
            section,
            &[
                ("depth", self.depth, LAYERS),
                ("hidden_size", self.hidden_size, WIDTH),
                ("intermediate_size", self.intermediate_size, WIDTH),
                ("out_hidden_size", self.out_hidden_size, WIDTH),
                ("num_heads", self.num_heads, HEADS),
                ("patch_size", self.patch_size, 1..=1024),
                ("temporal_patch_size", self.temporal_patch_size, 1..=64),
                ("spatial_merge_size", self.spatial_merge_size, 1..=64),
                ("tokens_per_second", self.tokens_per_second, 0..=10_000),
            ],
        )?;
        let merged = self.patch_size * self.spatial_merge_size;
        if let Some(window) = self.window_size {
            check_sizes(section, &[("window_size", window, merged..=1 << 20)])?;
        }
        if self.hidden_size % self.num_heads != 0 || self.head_dim() % 4 != 0 {
            let (width, heads) = (self.hidden_size, self.num_heads);
            return Err(format!(
                "{section}.hidden_size is {width}, no multiple of 4 for each of {heads} heads"
            ));
        }
        match self.num_position_embeddings {
            Some(rows) if !(1..=1 << 28).contains(&rows) || rows.isqrt().pow(2) != rows => {
                Err(format!("{section}.num_position_embeddings is {rows}; it must be a square"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the number of DeepStack levels: features that are added behind the decoder's first layers.
    pub(crate) fn deep_levels(&self) -> i64 {
        self.deepstack_visual_indexes.len() as i64
    }

    /// Returns whether norms are RMSNorm and MLPs SwiGLU: the tower is Qwen2.5-VL's, which has windows.
    pub(super) fn is_qwen2_5(&self) -> bool {
        self.window_size.is_some()
    }

    /// Returns the names of an MLP's first and last linear layer.
    pub(super) fn mlp_parts(&self) -> [&'static str; 2] {
        match (self.is_qwen3(), self.is_qwen2_5()) {
            (true, _) => ["linear_fc1", "linear_fc2"],
            (false, true) => ["up_proj", "down_proj"],
            (false, false) => ["fc1", "fc2"],
        }
    }

    /// Returns whether the tower is Qwen3-VL's, which has learned positions.
    pub(super) fn is_qwen3(&self) -> bool {
        self.num_position_embeddings.is_some()
    }

    /// Returns the width of an attention head.
    pub(super) fn head_dim(&self) -> i64 {
        self.hidden_size / self.num_heads
    }

    /// Returns the width of a concatenated square of patches.
    pub(super) fn merged_width(&self) -> i64 {
        self.hidden_size * self.spatial_merge_size.pow(2)
    }

    /// Adds names and shapes of the tower's tensors.
    pub(crate) fn tensors(&self, all: &mut HashMap<String, Vec<i64>>) {
        let (width, inner, merged) = (self.hidden_size, self.intermediate_size, self.merged_width());
        let mut add = |name: &str, shape: &[i64]| all.insert(format!("{PREFIX}.{name}"), shape.to_vec());
        let patch = [width, 3, self.temporal_patch_size, self.patch_size, self.patch_size];
        add("patch_embed.proj.weight", &patch);
        let mut linear = |name: &str, out: i64, input: i64| {
            add(&format!("{name}.weight"), &[out, input]);
            add(&format!("{name}.bias"), &[out]);
        };
        let [up, down] = self.mlp_parts();
        let mut mlp = vec![(up, inner, width), (down, width, inner)];
        if self.is_qwen2_5() {
            mlp.push(("gate_proj", inner, width));
        }
        for layer in 0..self.depth {
            linear(&format!("blocks.{layer}.attn.qkv"), 3 * width, width);
            linear(&format!("blocks.{layer}.attn.proj"), width, width);
            for (name, out, input) in &mlp {
                linear(&format!("blocks.{layer}.mlp.{name}"), *out, *input);
            }
        }
        for (prefix, _) in self.mergers() {
            let [_, first, second] = self.merger_parts();
            linear(&format!("{prefix}.{first}"), merged, merged);
            linear(&format!("{prefix}.{second}"), self.out_hidden_size, merged);
        }
        let mut norms: Vec<(String, i64)> = (0..self.depth)
            .flat_map(|layer| [1, 2].map(|norm| (format!("blocks.{layer}.norm{norm}"), width)))
            .collect();
        let norm = self.merger_parts()[0];
        norms.extend(
            self.mergers()
                .into_iter()
                .map(|(prefix, after)| (format!("{prefix}.{norm}"), if after { merged } else { width })),
        );
        for (name, width) in norms {
            add(&format!("{name}.weight"), &[width]);
            if !self.is_qwen2_5() {
                add(&format!("{name}.bias"), &[width]);
            }
        }
        if let Some(rows) = self.num_position_embeddings {
            add("pos_embed.weight", &[rows, width]);
            add("patch_embed.proj.bias", &[width]);
        }
    }

    /// Returns the name of each merger, and whether it concatenates before the norm.
    pub(super) fn mergers(&self) -> Vec<(String, bool)> {
        let deep = (0..self.deep_levels()).map(|level| (format!("deepstack_merger_list.{level}"), true));
        std::iter::once(("merger".to_owned(), false)).chain(deep).collect()
    }

    /// Returns the names of a merger's norm and two linear layers.
    pub(super) fn merger_parts(&self) -> [&'static str; 3] {
        if self.is_qwen3() { ["norm", "linear_fc1", "linear_fc2"] } else { ["ln_q", "mlp.0", "mlp.2"] }
    }
}
