//! What a checkpoint's `config.json` says, in a form that does not depend on the family.

use std::path::Path;

use isr_api::Frames;
use serde_json::Value;

use super::families::{Family, Layout};
use super::preprocess::{ProcessorFile, Recipe};
pub(crate) use super::text_config::TextConfig;
use super::vision::{ClipVision, QwenVision};
use crate::error::{Result, TorchError};

/// The parts of `config.json` that decide what is computed.
#[derive(Clone, Debug)]
pub(crate) struct ModelConfig {
    /// Whose names, prompts and settings the checkpoint has.
    pub(crate) family: Family,
    /// The decoder.
    pub(crate) text: TextConfig,
    /// The encoder.
    pub(crate) vision: VisionConfig,
    /// What stands for a video in rendered text.
    pub(crate) placeholder: Placeholder,
    /// How frames become the encoder's input.
    pub(crate) recipe: Recipe,
    /// The whole file, written back with a checkpoint.
    pub(crate) source: Value,
}

/// The encoder of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) enum VisionConfig {
    /// CLIP's transformer and a projector.
    Clip(ClipVision),
    /// Qwen-VL's transformer, which projects by itself.
    Qwen(QwenVision),
}

/// Where the features of a video go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// A token of the tokenizer.
    Token(u32),
    /// Text at which the prompt is cut before it is tokenised.
    Text(&'static str),
}

impl ModelConfig {
    /// Reads `config.json` of a checkpoint folder, and the files that say how frames are prepared.
    ///
    /// # Errors
    /// An absent file, JSON that does not parse, an architecture or option that is not supported; each
    /// names the file.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(TorchError::io("read", &path))?;
        let mut source: Value = serde_json::from_str(&text)
            .map_err(|error| TorchError::checkpoint(&path, format!("is not JSON: {error}")))?;
        let family = Family::of(&source).map_err(|reason| TorchError::checkpoint(&path, reason))?;
        family.complete(folder, &mut source)?;
        let mut config = Self::parse(source).map_err(|reason| TorchError::checkpoint(&path, reason))?;
        if let Some((path, file)) = ProcessorFile::find(folder, family.wants_image_processor())? {
            config.recipe = config.recipe.with(&file).map_err(|why| TorchError::checkpoint(path, why))?;
        }
        Ok(config)
    }

    /// Interprets the content of a `config.json`.
    pub(crate) fn parse(source: Value) -> std::result::Result<Self, String> {
        Family::of(&source)?.parse(source)
    }

    /// The prefix of the encoder's tensors, dot included.
    pub(crate) fn tower(&self) -> &'static str {
        match &self.vision {
            VisionConfig::Clip(vision) => vision.prefix,
            VisionConfig::Qwen(_) => QwenVision::PREFIX,
        }
    }

    /// Elements of one visual feature as the encoder gives it.
    pub(crate) fn feature_width(&self) -> i64 {
        match &self.vision {
            VisionConfig::Clip(vision) => vision.width(),
            VisionConfig::Qwen(vision) => vision.out_hidden_size * (1 + vision.deep_levels()),
        }
    }

    /// Shape `[steps, tokens, width]` of a video's features.
    ///
    /// # Errors
    /// Frames that the encoder cannot take.
    pub(crate) fn feature_shape(&self, frames: &Frames) -> Result<[i64; 3]> {
        let grid = self.recipe.grid(frames)?;
        let tokens = match &self.vision {
            VisionConfig::Clip(vision) => vision.tokens(),
            VisionConfig::Qwen(vision) => grid.height * grid.width / vision.spatial_merge_size.pow(2),
        };
        Ok([grid.steps, tokens, self.feature_width()])
    }

    /// How a video stands in a prompt.
    ///
    /// # Errors
    /// Frames that the encoder cannot take.
    pub(crate) fn layout(&self, frames: &Frames) -> Result<Layout> {
        self.family.layout(self, frames)
    }

    /// Layers of the encoder.
    pub(crate) fn tower_layers(&self) -> i64 {
        match &self.vision {
            VisionConfig::Clip(vision) => vision.num_hidden_layers,
            VisionConfig::Qwen(vision) => vision.depth,
        }
    }
}

/// A section of a config over the values that transformers takes where the file is silent.
pub(crate) fn with_defaults(section: &Value, defaults: Value) -> Value {
    let mut merged = defaults;
    if let (Value::Object(into), Value::Object(given)) = (&mut merged, section) {
        into.extend(
            given.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())),
        );
    }
    merged
}
