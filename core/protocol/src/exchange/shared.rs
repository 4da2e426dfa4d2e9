//! The plugin's side of the exchange folder: reads the videos and features of calls, and writes what it returns.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use isr_api::messages::{
    ArrayFile, EncodeMessage, FeaturesFile, MessageError, TurnMessage, VideoFiles, prompt_from_turns,
};
use isr_api::{ComponentError, Fingerprint, Frames, Prompt, VideoInput, VisualFeatures};

use super::{LARGEST, is_plain, read_own, write_whole};

/// The folder that `configure` names, for programs that are plugins.
pub struct SharedFolder {
    path: PathBuf,
    /// Number of files that were written.
    written: AtomicU64,
}

impl SharedFolder {
    /// The folder at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), written: AtomicU64::new(0) }
    }

    /// The files that one call names, each read once.
    pub fn call(&self) -> CallFiles<'_> {
        CallFiles { folder: self, frames: HashMap::new(), features: HashMap::new() }
    }

    /// Writes features under a name of this process's.
    ///
    /// # Errors
    /// [`ComponentError::Failed`] for more than isr reads, and for a file that cannot be written.
    pub fn place(&self, features: &VisualFeatures) -> Result<FeaturesFile, ComponentError> {
        let VisualFeatures { dtype, shape, bytes, .. } = features;
        let count = bytes.len();
        if count > LARGEST {
            let text =
                format!("features of shape {shape:?} have {count} bytes; at most {LARGEST} are read");
            return Err(ComponentError::failed(text));
        }
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let file = format!("{}-{number}.out", std::process::id());
        write_whole(&self.path, &file, bytes).map_err(|error| {
            let folder = self.path.display();
            ComponentError::failed(format!("cannot write {count} bytes of features into {folder}: {error}"))
        })?;
        Ok(FeaturesFile { file, shape: *shape, dtype: *dtype, encoder: String::new() })
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<u8>, MessageError> {
        let bytes = shape.iter().try_fold(1_usize, |size, &extent| size.checked_mul(extent));
        let read = match bytes {
            Some(bytes) if is_plain(name) => read_own(&self.path.join(name), bytes),
            Some(_) => Err("is no plain name in the exchange folder".to_owned()),
            None => Err(format!("has the impossible shape {shape:?}")),
        };
        read.map_err(|reason| MessageError::new(format!("the file `{name}` {reason}")))
    }
}

/// The files of one call, which isr keeps until it is answered.
pub struct CallFiles<'a> {
    folder: &'a SharedFolder,
    frames: HashMap<String, Arc<Frames>>,
    features: HashMap<String, Arc<VisualFeatures>>,
}

impl CallFiles<'_> {
    /// The frames of `encode`.
    ///
    /// # Errors
    /// [`ComponentError::Failed`] for a file that cannot be read or is not of the size of its shape.
    pub fn clip(&mut self, message: &EncodeMessage) -> Result<Arc<Frames>, ComponentError> {
        let EncodeMessage { frames, timestamps, duration } = message;
        self.frames(frames, timestamps, *duration).map_err(ComponentError::failed)
    }

    /// The conversation of turns, with its videos.
    ///
    /// # Errors
    /// Those of [`clip`](Self::clip), and features whose encoder is no fingerprint.
    pub fn prompt(&mut self, turns: Vec<TurnMessage<VideoFiles>>) -> Result<Prompt, ComponentError> {
        let prompt = prompt_from_turns(turns, &[], |video| self.video(video).map(Some));
        prompt.map_err(|error: MessageError| ComponentError::failed(error))
    }

    fn video(&mut self, of: VideoFiles) -> Result<VideoInput, MessageError> {
        let frames = self.frames(&of.frames, &of.timestamps, of.duration)?;
        let features = of.features.map(|file| self.features(file)).transpose()?;
        Ok(VideoInput { video: PathBuf::from(of.video), frames, features })
    }

    fn frames(
        &mut self,
        of: &ArrayFile,
        timestamps: &[f64],
        duration: f64,
    ) -> Result<Arc<Frames>, MessageError> {
        // Files are named by their pixels: two clips may share them, and differ in times.
        let same = |known: &&Arc<Frames>| known.timestamps == timestamps && known.duration == duration;
        if let Some(known) = self.frames.get(&of.file).filter(same) {
            return Ok(Arc::clone(known));
        }
        let &[count, height, width, 3] = of.shape.as_slice() else {
            return Err(MessageError::new(format!("frames of shape {:?}", of.shape)));
        };
        let (Ok(height), Ok(width)) = (u32::try_from(height), u32::try_from(width)) else {
            return Err(MessageError::new(format!("frames of shape {:?}", of.shape)));
        };
        if timestamps.len() != count {
            let times = timestamps.len();
            return Err(MessageError::new(format!("{times} timestamps of {count} frames")));
        }
        let rgb = self.folder.read(&of.file, &of.shape)?;
        let frames = Arc::new(Frames { width, height, rgb, timestamps: timestamps.to_vec(), duration });
        self.frames.insert(of.file.clone(), Arc::clone(&frames));
        Ok(frames)
    }

    fn features(&mut self, of: FeaturesFile) -> Result<Arc<VisualFeatures>, MessageError> {
        if let Some(known) = self.features.get(&of.file) {
            return Ok(Arc::clone(known));
        }
        let bytes = self.folder.read(&of.file, &[&of.shape[..], &[of.dtype.size()]].concat())?;
        let encoder: Fingerprint = serde_json::from_value(of.encoder.into())
            .map_err(|error| MessageError::new(format!("the features' encoder: {error}")))?;
        let features = VisualFeatures::new(of.dtype, of.shape, bytes, encoder)
            .map_err(|error| MessageError::new(error.to_string()))?;
        let features = Arc::new(features);
        self.features.insert(of.file, Arc::clone(&features));
        Ok(features)
    }
}

#[cfg(test)]
mod tests {
    use isr_api::FeatureType;

    use super::super::Exchange;
    use super::*;

    fn frames() -> Frames {
        Frames::new(4, 2, (0..48).collect(), vec![0.0, 0.5]).unwrap()
    }

    #[test]
    fn what_isr_places_is_read_and_what_a_plugin_places_is_taken() {
        let exchange = Exchange::create().unwrap();
        let folder = SharedFolder::new(exchange.path());
        let features = VisualFeatures::new(FeatureType::F32, [2, 1, 1], vec![7; 8], Fingerprint::of("e"));
        let features = Arc::new(features.unwrap());
        let video = VideoInput {
            video: "clips/7.mp4".into(),
            frames: Arc::new(frames()),
            features: Some(Arc::clone(&features)),
        };
        let prompt = Prompt::about(&video, "colour?");
        let mut lease = exchange.lease();
        let turns = lease.prompt(&prompt).unwrap();
        let read = folder.call().prompt(turns.clone()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{prompt:?}"));

        let placed = folder.place(&features).unwrap();
        assert_eq!(exchange.take(&placed.file, 8), Ok(vec![7; 8]));
        assert_ne!(folder.place(&features).unwrap().file, placed.file);
    }

    #[test]
    fn a_file_that_is_not_as_its_message_says_is_named() {
        let exchange = Exchange::create().unwrap();
        let folder = SharedFolder::new(exchange.path());
        let mut lease = exchange.lease();
        let frames = lease.frames(&frames()).unwrap();
        let of = |file: &str, shape: &[usize], timestamps: &[f64]| EncodeMessage {
            frames: ArrayFile { file: file.to_owned(), shape: shape.to_vec() },
            timestamps: timestamps.to_vec(),
            duration: 1.0,
        };
        for (message, says) in [
            (of(&frames.file, &[2, 2, 5, 3], &[0.0, 0.5]), "has 48 bytes, and its shape 60"),
            (of(&frames.file, &[2, 2, 4, 3], &[0.0]), "1 timestamps of 2 frames"),
            (of(&frames.file, &[2, 2, 4, 4], &[0.0]), "frames of shape [2, 2, 4, 4]"),
            (of("../secret", &[2, 2, 4, 3], &[0.0, 0.5]), "`../secret` is no plain name"),
            (of("gone.rgb", &[2, 2, 4, 3], &[0.0, 0.5]), "`gone.rgb` cannot be read"),
        ] {
            let said = folder.call().clip(&message).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
    }
}
