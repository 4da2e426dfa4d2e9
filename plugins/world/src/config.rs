//! Settings of the synthetic world.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attributes::{Count, Shape};

/// Synthetic video data with exact ground truth: short `.mp4` clips of moving shapes, questions about them, and
/// all facts. Missing clips are rendered before a run, in a few minutes at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorldConfig {
    /// Folder of clips and lists, relative to the current folder. It holds one world: numbers of clips may
    /// change later, other settings may not. Default `data/world`.
    pub dir: PathBuf,
    /// Number of training clips, without answers. Default 1000.
    pub training_clips: u32,
    /// Number of held-out clips. Default 500; 1500 are recommended for reported metrics.
    pub evaluation_clips: u32,
    /// Number of out-of-domain held-out clips: other shades of the same colours, slower objects, backgrounds of other
    /// grey levels and wider patterns. Metrics of their answers are named
    /// `shifted_accuracy` and so on. Default 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub shifted_clips: u32,
    /// Number of clips for the supervised warm start of a base model, disjoint from all others; rendered only
    /// for demonstrations. Default 3000.
    pub warmstart_clips: u32,
    /// Makes a warm-start clip a sequence of this many stills, at random times, one in each equal part of the clip: what
    /// one look with as many frames shows. 0 plays warm-start clips evenly. Required for demonstrations where `presence`
    /// is below 1, since a description may only say what is shown. Default 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub warmstart_stills: u32,
    /// Number of questions per clip, of different kinds, 1 to 5. Default 3.
    pub questions_per_clip: u32,
    /// Seed of all clips and questions. Default 0.
    pub seed: u64,
    /// Maximum number of objects in a clip, 1 to 3; a clip's number is uniform from 1. Default 2.
    pub max_objects: u32,
    /// Range of the share of a clip for which an object is present, in (0, 1], drawn uniformly for each object, as is
    /// the time at which it enters. It makes its whole way meanwhile. Default `[1.0, 1.0]`: all objects are there
    /// throughout. With shorter shares a few frames do not show everything.
    #[serde(skip_serializing_if = "is_whole")]
    pub presence: [f64; 2],
    /// Number of frames of a clip, 8 to 240. Default 24.
    pub frames: u32,
    /// Frame rate in frames per second, 1 to 60. Default 8, so a default clip lasts 3 seconds.
    pub fps: u32,
    /// Width and height in pixels, even, 32 to 256. Default 64.
    pub size: u32,
    /// Standard deviation of the brightness noise per pixel and frame, as a fraction of full brightness, 0 to
    /// 0.3. Default 0.03.
    pub noise: f64,
}

/// Presence throughout.
const WHOLE: [f64; 2] = [1.0, 1.0];

fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn is_whole(presence: &[f64; 2]) -> bool {
    *presence == WHOLE
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("data/world"),
            training_clips: 1000,
            evaluation_clips: 500,
            shifted_clips: 0,
            warmstart_clips: 3000,
            warmstart_stills: 0,
            questions_per_clip: 3,
            seed: 0,
            max_objects: 2,
            presence: WHOLE,
            frames: 24,
            fps: 8,
            size: 64,
            noise: 0.03,
        }
    }
}

impl WorldConfig {
    /// Checks ranges; the message names the first setting out of range.
    pub fn check(&self) -> Result<(), String> {
        let most_objects = Count::ALL.len().min(Shape::ALL.len()) as u32;
        let integers = [
            ("training_clips", self.training_clips, 1, 1_000_000),
            ("evaluation_clips", self.evaluation_clips, 0, 1_000_000),
            ("shifted_clips", self.shifted_clips, 0, 1_000_000),
            ("warmstart_clips", self.warmstart_clips, 0, 1_000_000),
            ("warmstart_stills", self.warmstart_stills, 0, self.frames),
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
        let [least, most] = self.presence;
        if !(least > 0.0 && least <= most && most <= 1.0) {
            return Err(format!(
                "presence is [{least}, {most}]; it must be two shares above 0 and up to 1, the smaller first"
            ));
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
