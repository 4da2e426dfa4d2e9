//! Cases of judges and retrospectors, and the settings of a component.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::component::Kind;
use crate::judge::JudgeCase;
use crate::response::Response;
use crate::retrospector::{RetrospectionCase, VisualContext};
use crate::video::VideoInput;

/// The component that a process is asked to be: parameters of `configure`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComponentSpec {
    /// `judge`, `retrospector`, `objective`, `evaluator`, `observer`, `data`, `preferences`, `demonstrations`, `policy` or
    /// `encoder`.
    pub kind: Kind,
    /// The name that a config gives as `type`.
    pub name: String,
    /// The config section without its `type`.
    pub settings: Map<String, Value>,
}

/// A video without its pixels, which the receiver fetches with `frame`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VideoInfo {
    /// [`VideoInput::key`]: the path, lossy where it is not UTF-8.
    pub video: String,
    /// Width of every frame in pixels.
    pub width: u32,
    /// Height of every frame in pixels.
    pub height: u32,
    /// Presentation time of each frame in seconds.
    pub timestamps: Vec<f64>,
}

impl From<&VideoInput> for VideoInfo {
    fn from(input: &VideoInput) -> Self {
        let frames = &input.frames;
        let timestamps = frames.timestamps.clone();
        Self { video: input.key(), width: frames.width, height: frames.height, timestamps }
    }
}

/// Parameters of `judge`: a [`JudgeCase`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeMessage<V> {
    /// The video.
    pub scene: V,
    /// The instruction that both responses answer.
    pub instruction: String,
    /// The retrospector's text about the video, where there is one.
    pub context: Option<VisualContext>,
    /// One response.
    pub first: Response,
    /// The other response.
    pub second: Response,
    /// Seed of every random draw.
    pub seed: u64,
}

impl<V> JudgeMessage<V> {
    /// A case whose video crosses as `scene`.
    pub fn new(case: &JudgeCase, scene: V) -> Self {
        let JudgeCase { scene: _, instruction, context, first, second, seed } = case.clone();
        Self { scene, instruction, context, first, second, seed }
    }

    /// The case, with the video that `scene` stands for.
    pub fn into_case(self, scene: VideoInput) -> JudgeCase {
        let Self { scene: _, instruction, context, first, second, seed } = self;
        JudgeCase { scene, instruction, context, first, second, seed }
    }
}

/// Parameters of `describe`: a [`RetrospectionCase`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DescribeMessage<V> {
    /// The video.
    pub scene: V,
    /// The previous iteration's description, where there is one.
    pub previous: Option<VisualContext>,
    /// Seed of every random draw.
    pub seed: u64,
}

impl<V> DescribeMessage<V> {
    /// A case whose video crosses as `scene`.
    pub fn new(case: &RetrospectionCase, scene: V) -> Self {
        Self { scene, previous: case.previous.clone(), seed: case.seed }
    }

    /// The case, with the video that `scene` stands for.
    pub fn into_case(self, scene: VideoInput) -> RetrospectionCase {
        RetrospectionCase { scene, previous: self.previous, seed: self.seed }
    }
}
