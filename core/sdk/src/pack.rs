//! Videos and conversations into forms and back.

use std::sync::Arc;

use isr_api::{Frames, Message as Turn, Part, Prompt, VideoInput, VisualFeatures};

use crate::error::RemoteError;
use crate::form::{FeaturesForm, FramesForm, PartForm, SceneForm, TurnForm};
use crate::message::{Blob, Message};

/// Collects the blobs of a message.
#[derive(Debug, Default)]
pub struct Packing<'a> {
    /// The blobs so far.
    pub blobs: Vec<Blob>,
    /// Videos that the receiver has already.
    pub known: &'a [VideoInput],
}

impl Packing<'_> {
    /// A video, with its features where they are wanted.
    pub fn scene(&mut self, scene: &VideoInput, features: bool) -> SceneForm {
        let features = scene.features.as_ref().filter(|_| features).map(|it| self.features(it));
        SceneForm { video: scene.video.clone(), frames: self.frames(&scene.frames), features }
    }

    /// Frames.
    pub fn frames(&mut self, frames: &Arc<Frames>) -> FramesForm {
        let Frames { width, height, timestamps, .. } = frames.as_ref();
        let rgb = self.add(Blob::Frames(Arc::clone(frames)));
        FramesForm { width: *width, height: *height, timestamps: timestamps.clone(), rgb }
    }

    /// Features.
    pub fn features(&mut self, features: &Arc<VisualFeatures>) -> FeaturesForm {
        let VisualFeatures { dtype, shape, encoder, .. } = features.as_ref();
        let bytes = self.add(Blob::Features(Arc::clone(features)));
        FeaturesForm { dtype: *dtype, shape: *shape, encoder: encoder.clone(), bytes }
    }

    /// A conversation. Videos that the receiver has are referred to.
    pub fn prompt(&mut self, prompt: &Prompt) -> Vec<TurnForm> {
        let turn = |turn: &Turn| {
            let parts = turn.parts.iter().map(|part| self.part(part)).collect();
            TurnForm { role: turn.role, parts }
        };
        prompt.messages.iter().map(turn).collect()
    }

    fn part(&mut self, part: &Part) -> PartForm {
        let scene = match part {
            Part::Text(text) => return PartForm::Text(text.clone()),
            Part::Video(scene) => scene,
        };
        match self.known.iter().position(|known| Arc::ptr_eq(&known.frames, &scene.frames)) {
            Some(index) => PartForm::Known(index),
            None => PartForm::Video(self.scene(scene, true)),
        }
    }

    /// Adds a blob and returns its index.
    pub fn add(&mut self, blob: Blob) -> usize {
        self.blobs.push(blob);
        self.blobs.len() - 1
    }
}

/// The frames of a message.
pub(crate) fn frames(message: &Message, form: FramesForm) -> Result<Frames, RemoteError> {
    let FramesForm { width, height, timestamps, rgb } = form;
    let rgb = message.blob(rgb)?.to_vec();
    let wanted = u128::from(width) * u128::from(height) * 3 * timestamps.len() as u128;
    if wanted != rgb.len() as u128 {
        let text = format!("{} bytes for {} frames of {width}x{height}", rgb.len(), timestamps.len());
        return Err(RemoteError::failed(text));
    }
    Ok(Frames { width, height, rgb, timestamps })
}

/// The features of a message.
pub fn features(message: &Message, form: FeaturesForm) -> Result<VisualFeatures, RemoteError> {
    let FeaturesForm { dtype, shape, encoder, bytes } = form;
    Ok(VisualFeatures { dtype, shape, encoder, bytes: message.blob(bytes)?.to_vec() })
}

/// A video of a message.
pub(crate) fn scene(message: &Message, form: SceneForm) -> Result<VideoInput, RemoteError> {
    let SceneForm { video, frames: of, features: with } = form;
    let features = with.map(|form| features(message, form).map(Arc::new)).transpose()?;
    Ok(VideoInput { video, frames: Arc::new(frames(message, of)?), features })
}

/// A conversation of a message, in which `known` may be referred to.
pub fn prompt(message: &Message, form: Vec<TurnForm>, known: &[VideoInput]) -> Result<Prompt, RemoteError> {
    let part = |part: PartForm| match part {
        PartForm::Text(text) => Ok(Part::Text(text)),
        PartForm::Video(form) => scene(message, form).map(Part::Video),
        PartForm::Known(index) => {
            let known = known.get(index).cloned().map(Part::Video);
            known.ok_or_else(|| RemoteError::failed(format!("there is no video {index} in this call")))
        }
    };
    let turn = |turn: TurnForm| {
        let parts = turn.parts.into_iter().map(part).collect::<Result<_, _>>()?;
        Ok(Turn { role: turn.role, parts })
    };
    Ok(Prompt { messages: form.into_iter().map(turn).collect::<Result<_, RemoteError>>()? })
}
