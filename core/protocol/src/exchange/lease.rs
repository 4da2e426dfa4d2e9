//! A lease on the files of one call: videos and features as the messages of a call name them.

use isr_api::messages::{ArrayFile, FeaturesFile, PartMessage, TurnMessage, VideoFiles};
use isr_api::{
    ComponentError, FingerprintBuilder, Frames, Message, Part, Prompt, VideoInput, VisualFeatures,
};

use super::Exchange;

/// The files that a call names, which stay until it is dropped.
pub(crate) struct Lease<'a> {
    exchange: &'a Exchange,
    names: Vec<String>,
}

impl<'a> Lease<'a> {
    pub(super) fn new(exchange: &'a Exchange) -> Self {
        Self { exchange, names: Vec::new() }
    }

    /// Places the pixels of a video.
    ///
    /// # Errors
    /// [`ComponentError::BadInput`] for frames whose bytes do not match their size; [`ComponentError::Failed`] for a file
    /// that cannot be written.
    pub(crate) fn frames(&mut self, frames: &Frames) -> Result<ArrayFile, ComponentError> {
        let shape = [frames.len(), frames.height as usize, frames.width as usize, 3];
        let expected: u128 = shape.iter().map(|&extent| extent as u128).product();
        if expected == 0 || expected != frames.rgb.len() as u128 {
            let text = format!("frames of shape {shape:?} in {} bytes", frames.rgb.len());
            return Err(ComponentError::bad_input(text));
        }
        let file = self.place("rgb", &shape, &frames.rgb)?;
        Ok(ArrayFile { file, shape: shape.to_vec() })
    }

    /// Places the features of a video.
    ///
    /// # Errors
    /// [`ComponentError::Failed`] for a file that cannot be written.
    pub(crate) fn features(&mut self, features: &VisualFeatures) -> Result<FeaturesFile, ComponentError> {
        let VisualFeatures { dtype, shape, bytes, encoder } = features;
        let file = self.place("features", &[&shape[..], &[dtype.size()]].concat(), bytes)?;
        Ok(FeaturesFile { file, shape: *shape, dtype: *dtype, encoder: encoder.to_string() })
    }

    /// Places a prompt's videos.
    ///
    /// # Errors
    /// Those of [`frames`](Self::frames) and [`features`](Self::features).
    pub(crate) fn prompt(
        &mut self,
        prompt: &Prompt,
    ) -> Result<Vec<TurnMessage<VideoFiles>>, ComponentError> {
        let mut part = |part: &Part| {
            Ok(match part {
                Part::Text(text) => PartMessage::Text(text.clone()),
                Part::Video(video) => PartMessage::Video(self.video(video)?),
            })
        };
        let turn = |turn: &Message| {
            let parts = turn.parts.iter().map(&mut part).collect::<Result<_, ComponentError>>()?;
            Ok(TurnMessage { role: turn.role, parts })
        };
        prompt.messages.iter().map(turn).collect()
    }

    fn video(&mut self, video: &VideoInput) -> Result<VideoFiles, ComponentError> {
        let features = video.features.as_ref().map(|features| self.features(features)).transpose()?;
        Ok(VideoFiles {
            video: video.key(),
            frames: self.frames(&video.frames)?,
            timestamps: video.frames.timestamps.clone(),
            duration: video.frames.duration,
            features,
        })
    }

    fn place(&mut self, ending: &str, shape: &[usize], bytes: &[u8]) -> Result<String, ComponentError> {
        let mut digest = FingerprintBuilder::default();
        for extent in shape {
            digest.update(&(*extent as u64).to_le_bytes());
        }
        let name = format!("{}.{ending}", digest.update(bytes).finish());
        self.exchange.place(&name, bytes).map_err(|error| {
            let (size, folder) = (bytes.len(), self.exchange.path());
            ComponentError::failed(format!("cannot write {size} bytes for a plugin into {folder}: {error}"))
        })?;
        self.names.push(name.clone());
        Ok(name)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.names.iter().for_each(|name| self.exchange.release(name));
    }
}
