//! Visual features on the model's device: from the encoder's bytes, or from the model's own tower.

use std::sync::Arc;

use isr_core::{FeatureType, Frames, Scene, VisualFeatures};
use tch::{Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::model::VideoLmm;
use crate::model::preprocess::{Preprocess, pixels};

/// Features `[features, dim]` of some scenes, one after the other; `None` without a scene.
///
/// `own_tower` computes them from frames with the model's tower, as is needed while the tower trains
/// or where a scene comes without features.
pub(crate) fn features(model: &VideoLmm, scenes: &[Scene], own_tower: bool) -> Result<Option<Tensor>> {
    if scenes.is_empty() {
        return Ok(None);
    }
    let parts = scenes.iter().map(|scene| match &scene.features {
        Some(features) if !own_tower => from_bytes(model, features),
        _ => encode(model, &[&scene.frames]),
    });
    Ok(Some(Tensor::f_cat(&parts.collect::<Result<Vec<_>>>()?, 0)?))
}

/// Features of each scene list, each distinct video encoded once and all of them in one pass; for
/// training the tower.
pub(crate) fn features_together(model: &VideoLmm, lists: &[&[Scene]]) -> Result<Vec<Option<Tensor>>> {
    let mut distinct: Vec<&Arc<Frames>> = Vec::new();
    for scene in lists.iter().copied().flatten() {
        if !distinct.iter().any(|known| Arc::ptr_eq(known, &scene.frames)) {
            distinct.push(&scene.frames);
        }
    }
    if distinct.is_empty() {
        return Ok(lists.iter().map(|_| None).collect());
    }
    let frames: Vec<&Frames> = distinct.iter().map(|frames| frames.as_ref()).collect();
    let all = encode(model, &frames)?;
    let tokens = model.config.tokens_per_frame();
    let mut starts = Vec::with_capacity(distinct.len());
    let mut next = 0;
    for frames in &distinct {
        starts.push((next, frames.len() as i64 * tokens));
        next += frames.len() as i64 * tokens;
    }
    let of_scene = |scene: &Scene| -> Result<Tensor> {
        let known = distinct.iter().position(|frames| Arc::ptr_eq(frames, &scene.frames));
        let (start, length) = starts[known.unwrap_or_default()];
        Ok(all.f_narrow(0, start, length)?)
    };
    lists
        .iter()
        .map(|scenes| match scenes {
            [] => Ok(None),
            scenes => {
                let parts: Vec<Tensor> = scenes.iter().map(of_scene).collect::<Result<_>>()?;
                Ok(Some(Tensor::f_cat(&parts, 0)?))
            }
        })
        .collect()
}

fn encode(model: &VideoLmm, videos: &[&Frames]) -> Result<Tensor> {
    let size = model.config.vision.image_size;
    let pixels = videos.iter().map(|frames| pixels(frames, size, Preprocess::Clip));
    let pixels = Tensor::f_cat(&pixels.collect::<Result<Vec<_>>>()?, 0)?;
    let pixels = pixels.f_to_device(model.device)?.f_to_kind(model.kind)?;
    Ok(model.tower.forward(&pixels)?.f_flatten(0, 1)?)
}

fn from_bytes(model: &VideoLmm, features: &VisualFeatures) -> Result<Tensor> {
    let (dim, tokens) = (model.config.vision.hidden_size, model.config.tokens_per_frame());
    let shape = features.shape.map(|size| size as i64);
    if shape[1] != tokens || shape[2] != dim {
        return Err(TorchError::Engine(format!(
            "the encoder gives features of shape {shape:?}, but the model takes [frames, {tokens}, {dim}]; \
             let encoder.model be the checkpoint that policy.model is"
        )));
    }
    let kind = match features.dtype {
        FeatureType::F32 => Kind::Float,
        FeatureType::Bf16 => Kind::BFloat16,
    };
    let flat = [shape[0] * shape[1], shape[2]];
    let tensor = Tensor::f_from_data_size(&features.bytes, &flat, kind)?;
    Ok(tensor.f_to_device(model.device)?.f_to_kind(model.kind)?)
}
