//! What a world is made from.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attributes::{Count, Shape};

/// A synthetic video world with exact ground truth: short `.mp4` clips of moving shapes, questions about
/// them, and every fact. It renders what is missing before a run, in a few minutes at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Folder that the clips and lists are rendered into, relative to the current folder. It holds one
    /// world; counts of clips may change later, other settings may not. Default `data/world`.
    pub dir: PathBuf,
    /// Clips that the policy learns from, without answers. Default 1000.
    pub training_clips: u32,
    /// Held-out clips. Default 500; figures meant for a report want 1500 that no decision was made on.
    pub evaluation_clips: u32,
    /// Clips for the supervised warm start of a base model, apart from all others; rendered only when
    /// demonstrations are asked for. Default 3000.
    pub warmstart_clips: u32,
    /// Questions asked about each clip, of different kinds, 1 to 5. Default 3.
    pub questions_per_clip: u32,
    /// Seed of all clips and questions. Default 0.
    pub seed: u64,
    /// Most objects in a clip, 1 to 3; a clip has 1 to this many, each as often. Default 2.
    pub max_objects: u32,
    /// Frames of a clip, 8 to 240. Default 24.
    pub frames: u32,
    /// Frames per second, 1 to 60. Default 8, so a default clip lasts 3 seconds.
    pub fps: u32,
    /// Width and height in pixels, even, 32 to 256. Default 64.
    pub size: u32,
    /// Standard deviation of the brightness noise of each pixel and frame, as a share of full
    /// brightness, 0 to 0.3. Default 0.03.
    pub noise: f64,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("data/world"),
            training_clips: 1000,
            evaluation_clips: 500,
            warmstart_clips: 3000,
            questions_per_clip: 3,
            seed: 0,
            max_objects: 2,
            frames: 24,
            fps: 8,
            size: 64,
            noise: 0.03,
        }
    }
}

impl WorldConfig {
    /// Names the first setting that is out of range.
    pub fn check(&self) -> Result<(), String> {
        let most_objects = Count::ALL.len().min(Shape::ALL.len()) as u32;
        let integers = [
            ("training_clips", self.training_clips, 1, 1_000_000),
            ("evaluation_clips", self.evaluation_clips, 0, 1_000_000),
            ("warmstart_clips", self.warmstart_clips, 0, 1_000_000),
            // There are five kinds of question.
            ("questions_per_clip", self.questions_per_clip, 1, 5),
            ("max_objects", self.max_objects, 1, most_objects),
            ("frames", self.frames, 8, 240),
            ("fps", self.fps, 1, 60),
            ("size", self.size, 32, 256),
        ];
        for (name, value, low, high) in integers {
            if !(low..=high).contains(&value) {
                return Err(format!("{name} is {value}; it may be {low} to {high}"));
            }
        }
        if !self.size.is_multiple_of(2) {
            return Err(format!("size is {}; it must be even, as yuv420p halves it", self.size));
        }
        if !(0.0..=0.3).contains(&self.noise) {
            return Err(format!("noise is {}; it may be 0 to 0.3", self.noise));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_unknown_keys_are_not() {
        let config: WorldConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, WorldConfig::default());
        config.check().unwrap();
        assert!(serde_json::from_str::<WorldConfig>(r#"{"sized": 3}"#).is_err());
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let odd = WorldConfig { size: 65, ..WorldConfig::default() };
        assert!(odd.check().unwrap_err().contains("size is 65; it must be even"));
        let many = WorldConfig { max_objects: 4, ..WorldConfig::default() };
        assert_eq!(many.check().unwrap_err(), "max_objects is 4; it may be 1 to 3");
        let nan = WorldConfig { noise: f64::NAN, ..WorldConfig::default() };
        assert!(nan.check().is_err());
    }
}
