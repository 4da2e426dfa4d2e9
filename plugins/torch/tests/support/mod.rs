//! Golden data and scenes for the tests of this crate.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;
use std::sync::Arc;

use isr_core::{Frames, Scene, VisualFeatures};
use isr_torch::{ClipConfig, Precision, Preprocess};
use safetensors::SafeTensors;
use serde_json::Value;

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

pub fn clip() -> ClipConfig {
    ClipConfig {
        model: None,
        device: "cpu".to_owned(),
        precision: Precision::Float32,
        preprocess: Preprocess::Clip,
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
        folder().join(format!("tiny_{}", self.family))
    }

    pub fn tensor(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.bytes).unwrap().tensor(name).unwrap().data().to_vec()
    }

    /// The pseudo-video, by its integer formula.
    pub fn frames(&self) -> Frames {
        pseudo_video(8, 70, 84, 0)
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
    Frames { width, height, rgb, timestamps }
}

pub fn scene(golden: &Golden, features: Option<VisualFeatures>) -> Scene {
    let frames = Arc::new(golden.frames());
    Scene { video: "pseudo.mp4".into(), frames, features: features.map(Arc::new) }
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
