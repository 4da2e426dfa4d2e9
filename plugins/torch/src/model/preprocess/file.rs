//! Processor files of transformers (`processor_config.json`, `preprocessor_config.json`, ...).

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::normalization::Normalization;
use crate::error::{Result, TorchError};
use crate::json_file;

/// Settings of a processor file; `None` leaves the default of the processor.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessorFile {
    pub(super) image_mean: Option<[f64; 3]>,
    pub(super) image_std: Option<[f64; 3]>,
    size: Option<Value>,
    crop_size: Option<Value>,
    resample: Option<u32>,
    rescale_factor: Option<f64>,
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    pub(super) min_pixels: Option<i64>,
    pub(super) max_pixels: Option<i64>,
    pub(super) patch_size: Option<i64>,
    pub(super) temporal_patch_size: Option<i64>,
    pub(super) merge_size: Option<i64>,
    pub(super) cap_pixels_per_frame: Option<bool>,
    pub(super) max_video_tokens: Option<i64>,
}

impl ProcessorFile {
    /// Finds the settings for videos, or with `image` those for images, and their file. Searches in the order of
    /// transformers 5, `processor_config.json` first; `None` if there is no file.
    pub(crate) fn find(folder: &Path, image: bool) -> Result<Option<(PathBuf, Self)>> {
        let section = if image { "image_processor" } else { "video_processor" };
        let joint = folder.join("processor_config.json");
        let inner = json_file::read_optional(&joint)?.get(section).cloned();
        let mut found = inner.filter(Value::is_object).map(|value| (joint, value));
        let names = ["video_preprocessor_config.json", "preprocessor_config.json"];
        for name in &names[usize::from(image)..] {
            let path = folder.join(name);
            if found.is_none() && path.exists() {
                found = Some((path.clone(), json_file::read_optional(&path)?));
            }
        }
        let Some((path, value)) = found else {
            return Ok(None);
        };
        let file = serde_json::from_value(value);
        let file = file.map_err(|error| TorchError::checkpoint(&path, error.to_string()))?;
        Ok(Some((path, file)))
    }

    /// Checks the settings that no processor here implements.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let switches = [
            ("do_resize", self.do_resize),
            ("do_rescale", self.do_rescale),
            ("do_normalize", self.do_normalize),
        ];
        if let Some((name, _)) = switches.iter().find(|(_, on)| *on == Some(false)) {
            return Err(format!("`{name}` = false is not supported"));
        }
        match self.rescale_factor {
            Some(factor) if (factor * 255.0 - 1.0).abs() > 1e-6 => {
                Err(format!("rescale_factor {factor} is not supported; known: 1/255"))
            }
            _ => Ok(()),
        }
    }

    /// Whether to crop the centre; true by default.
    pub(super) fn crops(&self) -> bool {
        self.do_center_crop.unwrap_or(true)
    }

    /// Whether to interpolate bilinearly (PIL code 2) instead of bicubically (3).
    pub(super) fn is_bilinear(&self) -> std::result::Result<bool, String> {
        match self.resample {
            None | Some(3) => Ok(false),
            Some(2) => Ok(true),
            Some(other) => {
                Err(format!("resample {other} is not supported; known: 2 (bilinear), 3 (bicubic)"))
            }
        }
    }

    /// Returns the length of the short side in pixels.
    pub(super) fn short_side(&self) -> Option<i64> {
        let size = self.size.as_ref()?;
        size.as_i64().or_else(|| size["shortest_edge"].as_i64())
    }

    /// Returns height and width in pixels.
    pub(super) fn exact_size(&self) -> Option<[i64; 2]> {
        sides(self.size.as_ref()?)
    }

    /// Returns the lower and upper bound of the pixel budget.
    pub(super) fn budget(&self) -> (Option<i64>, Option<i64>) {
        let edge = |name: &str| self.size.as_ref().and_then(|size| size[name].as_i64());
        (self.min_pixels.or(edge("shortest_edge")), self.max_pixels.or(edge("longest_edge")))
    }

    /// Returns the side of the square crop in pixels.
    pub(super) fn crop_size(&self) -> std::result::Result<Option<i64>, String> {
        let Some(size) = &self.crop_size else {
            return Ok(None);
        };
        match (size.as_i64(), sides(size)) {
            (Some(side), _) => Ok(Some(side)),
            (None, Some([height, width])) if height == width => Ok(Some(height)),
            _ => Err(format!("crop_size {size} is not a square")),
        }
    }

    /// Returns the file's statistics, `default` where it has none.
    ///
    /// # Errors
    /// A standard deviation that is not positive.
    pub(super) fn normalization(
        &self,
        default: Normalization,
    ) -> std::result::Result<Normalization, String> {
        let mean = self.image_mean.unwrap_or(default.mean);
        let std = self.image_std.unwrap_or(default.std);
        match std.iter().all(|value| value.is_finite() && *value > 0.0) {
            true => Ok(Normalization { mean, std }),
            false => Err(format!("image_std is {std:?}; it must be above 0")),
        }
    }
}

fn sides(size: &Value) -> Option<[i64; 2]> {
    Some([size["height"].as_i64()?, size["width"].as_i64()?])
}
