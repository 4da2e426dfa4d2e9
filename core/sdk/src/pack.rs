//! Videos, frames and features as blobs of a message, and back.

use std::sync::Arc;

use isr_api::messages::PartMessage;
use isr_api::{Frames, VideoInput, VisualFeatures};

use crate::error::RemoteError;
use crate::message::{Blob, Message};
use crate::messages::{FeaturesMessage, FramesMessage, VideoMessage};

/// Collects the blobs of a message.
#[derive(Debug, Default)]
pub struct Packing<'a> {
    /// The blobs so far.
    pub blobs: Vec<Blob>,
    /// Videos that the receiver has already; they cross by index.
    pub known: &'a [VideoInput],
}

impl Packing<'_> {
    /// Adds a video, with its features where `features` is set.
    pub fn video(&mut self, input: &VideoInput, features: bool) -> VideoMessage {
        let features = input.features.as_ref().filter(|_| features).map(|it| self.features(it));
        VideoMessage { video: input.video.clone(), frames: self.frames(&input.frames), features }
    }

    /// Adds frames.
    pub fn frames(&mut self, frames: &Arc<Frames>) -> FramesMessage {
        let Frames { width, height, timestamps, duration, .. } = frames.as_ref();
        let rgb = self.add(Blob::Frames(Arc::clone(frames)));
        let duration = Some(*duration);
        FramesMessage { width: *width, height: *height, timestamps: timestamps.clone(), rgb, duration }
    }

    /// Adds features.
    pub fn features(&mut self, features: &Arc<VisualFeatures>) -> FeaturesMessage {
        let VisualFeatures { dtype, shape, encoder, .. } = features.as_ref();
        let bytes = self.add(Blob::Features(Arc::clone(features)));
        FeaturesMessage { dtype: *dtype, shape: *shape, encoder: encoder.clone(), bytes }
    }

    /// A video of a prompt: its index where the receiver has it, else the whole.
    pub fn part(&mut self, input: &VideoInput) -> PartMessage<VideoMessage> {
        match self.known.iter().position(|known| Arc::ptr_eq(&known.frames, &input.frames)) {
            Some(index) => PartMessage::Known(index),
            None => PartMessage::Video(self.video(input, true)),
        }
    }

    /// Adds a blob and returns its index.
    pub fn add(&mut self, blob: Blob) -> usize {
        self.blobs.push(blob);
        self.blobs.len() - 1
    }
}

/// The frames of a message.
///
/// # Errors
/// A blob that is missing or has another length than the frames.
pub(crate) fn frames(message: &Message, of: FramesMessage) -> Result<Frames, RemoteError> {
    let FramesMessage { width, height, timestamps, rgb, duration } = of;
    let rgb = message.blob(rgb)?.to_vec();
    let wanted = u128::from(width) * u128::from(height) * 3 * timestamps.len() as u128;
    if wanted != rgb.len() as u128 {
        let text = format!("{} bytes for {} frames of {width}x{height}", rgb.len(), timestamps.len());
        return Err(RemoteError::failed(text));
    }
    Ok(Frames { width, height, rgb, timestamps, duration: duration.unwrap_or_default() })
}

/// The features of a message.
///
/// # Errors
/// A blob that is missing.
pub fn features(message: &Message, of: FeaturesMessage) -> Result<VisualFeatures, RemoteError> {
    let FeaturesMessage { dtype, shape, encoder, bytes } = of;
    Ok(VisualFeatures { dtype, shape, encoder, bytes: message.blob(bytes)?.to_vec() })
}

/// The video of a message.
///
/// # Errors
/// A blob that is missing or has another length than the frames.
pub(crate) fn video(message: &Message, of: VideoMessage) -> Result<VideoInput, RemoteError> {
    let VideoMessage { video, frames: pixels, features: with } = of;
    let features = with.map(|it| features(message, it).map(Arc::new)).transpose()?;
    Ok(VideoInput { video, frames: Arc::new(frames(message, pixels)?), features })
}
