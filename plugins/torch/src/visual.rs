//! Visual features on the model's device, from an encoder's bytes or from the model's own tower.

use std::sync::Arc;

use isr_api::{FeatureType, Frames, VideoInput, VisualFeatures};
use tch::{Kind, Tensor};

use crate::error::{Result, TorchError};
use crate::model::VideoLmm;

/// Returns features `[features, width]` of some scenes, concatenated; `None` without a scene.
///
/// VideoCache without features, and with `own_tower` all of them, are encoded by the model's current tower.
///
/// # Errors
/// Features of a shape that the model does not take, or frames that it does not accept.
pub(crate) fn features(model: &VideoLmm, scenes: &[VideoInput], own_tower: bool) -> Result<Option<Tensor>> {
    if scenes.is_empty() {
        return Ok(None);
    }
    let parts = scenes.iter().map(|scene| match &scene.features {
        Some(features) if !own_tower => from_bytes(model, &scene.frames, features),
        _ => encode(model, &scene.frames),
    });
    Ok(Some(Tensor::f_cat(&parts.collect::<Result<Vec<_>>>()?, 0)?))
}

/// Encodes scene lists with the model's tower, each distinct video once, with a graph; for training the tower.
pub(crate) fn features_together(model: &VideoLmm, lists: &[&[VideoInput]]) -> Result<Vec<Option<Tensor>>> {
    let mut distinct: Vec<&Arc<Frames>> = Vec::new();
    for scene in lists.iter().copied().flatten() {
        if !distinct.iter().any(|known| Arc::ptr_eq(known, &scene.frames)) {
            distinct.push(&scene.frames);
        }
    }
    let frames: Vec<&Frames> = distinct.iter().map(|frames| frames.as_ref()).collect();
    let encoded: Vec<Tensor> = model
        .encode_all(&frames)?
        .iter()
        .map(|features| features.f_flatten(0, 1))
        .collect::<std::result::Result<_, _>>()?;
    let of_scene = |scene: &VideoInput| {
        let at = distinct.iter().position(|known| Arc::ptr_eq(known, &scene.frames));
        at.map(|at| encoded[at].shallow_clone())
    };
    let of_list = |scenes: &&[VideoInput]| -> Result<Option<Tensor>> {
        let parts: Vec<Tensor> = scenes.iter().filter_map(of_scene).collect();
        Ok(if parts.is_empty() { None } else { Some(Tensor::f_cat(&parts, 0)?) })
    };
    lists.iter().map(of_list).collect()
}

fn encode(model: &VideoLmm, frames: &Frames) -> Result<Tensor> {
    Ok(model.encode(frames)?.f_flatten(0, 1)?)
}

fn from_bytes(model: &VideoLmm, frames: &Frames, features: &VisualFeatures) -> Result<Tensor> {
    let (shape, expected) = (features.shape.map(|size| size as i64), model.config.feature_shape(frames)?);
    if shape != expected {
        return Err(TorchError::Engine(format!(
            "the encoder gives features of shape {shape:?}, but the model takes {expected:?}; let \
             encoder.model be the checkpoint that policy.model is"
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
