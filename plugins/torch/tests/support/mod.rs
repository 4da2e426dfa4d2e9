//! Golden data and scenes for the tests of this crate.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{
    ComponentError, Continuation, Frames, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Prompt,
    Requirements, Target, TrainExample, TrainStep, VideoInput, View, VisualFeatures,
};
use isr_torch::{PrecisionConfig, Preprocess, VisionTowerConfig};
use safetensors::SafeTensors;
use serde_json::Value;

/// Every family that transformers' goldens cover.
pub const FAMILIES: [&str; 9] = [
    "llava",
    "video_llava",
    "llava_next_video",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "llava_onevision",
    "internvl",
];

/// Every golden of transformers: those of the families, a clip that is longer than it is wide, another number of frames,
/// and InternVL with a Qwen3 decoder and InternViT-6B's norms.
pub const GOLDENS: [&str; 12] = [
    "llava",
    "video_llava",
    "llava_next_video",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen2_5_vl_time",
    "llava_onevision",
    "llava_onevision_frames",
    "internvl",
    "internvl3_5",
];

/// The repository's goldens, or those that `make.py` has put into `ISR_GOLDEN`.
pub fn folder() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    std::env::var_os("ISR_GOLDEN").map_or(own, PathBuf::from)
}

pub fn tower_config() -> VisionTowerConfig {
    VisionTowerConfig {
        model: None,
        device: "cpu".to_owned(),
        precision: PrecisionConfig::Float32,
        preprocess: Preprocess::Checkpoint,
    }
}

pub struct Golden {
    family: String,
    pub json: Value,
    bytes: Vec<u8>,
}

impl Golden {
    pub fn read(family: &str) -> Self {
        let json = std::fs::read_to_string(folder().join(format!("{family}.json"))).unwrap();
        let bytes = std::fs::read(folder().join(format!("{family}.safetensors"))).unwrap();
        Self { family: family.to_owned(), json: serde_json::from_str(&json).unwrap(), bytes }
    }

    pub fn model(&self) -> PathBuf {
        let own = format!("tiny_{}", self.family);
        folder().join(self.json["model"].as_str().unwrap_or(&own))
    }

    /// The file of the tensors.
    pub fn path(&self) -> PathBuf {
        folder().join(format!("{}.safetensors", self.family))
    }

    pub fn has(&self, name: &str) -> bool {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).is_ok()
    }

    pub fn tensor(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).unwrap().data().to_vec()
    }

    /// The pseudo-video, by its integer formula.
    pub fn frames(&self) -> Frames {
        let number = |value: &Value| value.as_u64().unwrap() as u32;
        let (height, width) = (number(&self.json["source_hw"][0]), number(&self.json["source_hw"][1]));
        let mut frames = pseudo_video(number(&self.json["frames"]), height, width, 0);
        let fps = self.json["fps"].as_f64().unwrap_or(1.0);
        let all = self.json["clip_frames"].as_f64().unwrap_or(frames.len() as f64);
        let step = (all - 1.0) / (frames.len() - 1) as f64;
        frames.timestamps.iter_mut().for_each(|time| *time = (*time * step).floor() / fps);
        frames.with_duration(all / fps)
    }

    /// A question about the pseudo-video, with the system message that the golden prompts have.
    pub fn prompt(&self, scene: &VideoInput, question: &str) -> Prompt {
        let prompt = Prompt::about(scene, question);
        match self.json["prompt"].as_str().unwrap().split_once(" USER:") {
            Some((system, _)) => prompt.with_system(system),
            // Qwen's template has a system message of its own.
            None => prompt,
        }
    }

    /// The golden question about the pseudo-video.
    pub fn question(&self, scene: &VideoInput) -> Prompt {
        self.prompt(scene, self.json["question"].as_str().unwrap())
    }

    /// What the user says in a rendered prompt.
    pub fn said(&self, rendered: &str) -> String {
        let (start, end) = match rendered.contains(" USER:") {
            true => (">\n", " ASSISTANT:"),
            false if rendered.contains("<|vision_end|>") => ("<|vision_end|>", "<|im_end|>"),
            false => ("<video>\n", "<|im_end|>"),
        };
        let (_, said) = rendered.split_once(start).unwrap();
        said.split_once(end).unwrap().0.to_owned()
    }

    /// The answer's text without the mark of its end.
    pub fn answer(&self, name: &str) -> String {
        let text = self.json["responses"][format!("{name}_text")].as_str().unwrap();
        text.trim_end_matches("</s>").trim_end_matches("<|im_end|>").to_owned()
    }
}

/// See `video_formula` in the golden files.
pub fn pseudo_video(frames: u32, height: u32, width: u32, seed: i64) -> Frames {
    let mut rgb = Vec::new();
    for t in 0..i64::from(frames) {
        for y in 0..i64::from(height) {
            for x in 0..i64::from(width) {
                for c in 0..3 {
                    let v = x * 3 + y * 5 + t * 17 + c * 53 + seed * 29;
                    let v = v + ((x * y) >> 3) * 7 + ((x ^ y) * (t + 1 + seed));
                    rgb.push(v.rem_euclid(256) as u8);
                }
            }
        }
    }
    let timestamps = (0..frames).map(f64::from).collect();
    Frames { width, height, rgb, timestamps, duration: f64::from(frames) }
}

/// Writes the tensors of a file to `folder/model.safetensors` under other names (`None` drops one), and
/// returns those names.
pub fn rename_tensors(from: &Path, folder: &Path, rename: impl Fn(&str) -> Option<String>) -> Vec<String> {
    join_tensors(&[from.to_owned()], folder, rename)
}

/// The same with the tensors of several files.
pub fn join_tensors(
    files: &[PathBuf],
    folder: &Path,
    rename: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let contents: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    let mut tensors = BTreeMap::new();
    for bytes in &contents {
        for (name, view) in SafeTensors::deserialize(bytes).unwrap().tensors() {
            tensors.extend(rename(&name).map(|name| (name, view)));
        }
    }
    std::fs::create_dir_all(folder).unwrap();
    let names = tensors.keys().cloned().collect();
    safetensors::serialize_to_file(tensors, None, &folder.join("model.safetensors")).unwrap();
    names
}

pub fn scene(golden: &Golden, features: Option<VisualFeatures>) -> VideoInput {
    let frames = Arc::new(golden.frames());
    VideoInput { video: "pseudo.mp4".into(), frames, features: features.map(Arc::new) }
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// DPO's sigmoid loss (arXiv 2305.18290, eq. 7), written down apart from the project's own.
pub struct Dpo {
    pub beta: f64,
}

impl PreferenceObjective for Dpo {
    fn requirements(&self) -> Requirements {
        Requirements::new([View::Chosen, View::Rejected]).with_reference()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let (chosen, rejected) = (batch.view(View::Chosen)?, batch.view(View::Rejected)?);
        let pairs = batch.pairs() as f64;
        let mut value = ObjectiveValue {
            loss: 0.0,
            gradients: vec![Vec::new(), Vec::new()],
            metrics: Default::default(),
        };
        for pair in 0..batch.pairs() {
            let logit = (chosen.policy[pair] - chosen.reference[pair])
                - (rejected.policy[pair] - rejected.reference[pair]);
            let wrong = 1.0 / (1.0 + (self.beta * logit).exp());
            value.loss -= (1.0 - wrong).ln() / pairs;
            value.gradients[0].push(-self.beta * wrong / pairs);
            value.gradients[1].push(self.beta * wrong / pairs);
        }
        Ok(value)
    }
}

pub fn example(golden: &Golden) -> TrainExample {
    let scene = scene(golden, None);
    let target = |name: &str| {
        let ids = serde_json::from_value(golden.json["responses"][format!("{name}_ids")].clone()).unwrap();
        let reference = floats(&golden.tensor(&format!("{name}_ref_logps")));
        Target { continuation: Continuation::Tokens(ids), reference: Some(reference) }
    };
    TrainExample::new(golden.question(&scene), target("chosen"), Some(target("rejected")))
}

pub fn step(examples: Vec<TrainExample>, step: u64, learning_rate: f64) -> TrainStep {
    TrainStep { examples, step, learning_rate, max_grad_norm: Some(1.0), seed: step }
}

/// A copy of a checkpoint folder that may be changed.
pub fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copy = to.join(path.file_name().unwrap());
        std::fs::write(&copy, std::fs::read(&path).unwrap()).unwrap();
    }
}
