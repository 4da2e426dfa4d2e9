//! Modified inputs of a judge.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{ComponentError, Fingerprint, Frames, VideoReader};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pixel value of a blank video, in 0..=255.
const GREY: u8 = 128;

/// Video shown to the judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SeenVideo {
    /// The sample's own video.
    #[default]
    Recorded,
    /// Uniform grey frames of the same number and size.
    Blank,
    /// The video of the next sample with a different one.
    Other,
}

/// Inputs of the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which video.
    pub video: SeenVideo,
    /// Whether the visual context of the run's judge is included.
    pub context: bool,
}

impl Seen {
    /// Wraps a run's video reader so that it yields this video.
    #[must_use]
    pub fn through(self, reader: Arc<dyn VideoReader>) -> Arc<dyn VideoReader> {
        match self.video {
            SeenVideo::Blank => Arc::new(BlankReader { reader }),
            SeenVideo::Recorded | SeenVideo::Other => reader,
        }
    }
}

/// Replaces the pixels of another reader's frames.
struct BlankReader {
    reader: Arc<dyn VideoReader>,
}

#[async_trait]
impl VideoReader for BlankReader {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(format!("blank {}", self.reader.fingerprint()))
    }

    async fn read(&self, video: &Path) -> Result<Frames, ComponentError> {
        Ok(blank(self.reader.read(video).await?))
    }

    fn draws_frames(&self) -> bool {
        self.reader.draws_frames()
    }

    async fn draw(&self, video: &Path, seed: u64) -> Result<Frames, ComponentError> {
        Ok(blank(self.reader.draw(video, seed).await?))
    }
}

fn blank(mut frames: Frames) -> Frames {
    frames.rgb.fill(GREY);
    frames
}

/// For each video the next one in the order of a list, the first for the last; `None` where there is but one.
pub(super) fn next_of_each<'a>(videos: impl Iterator<Item = &'a str>) -> Option<HashMap<&'a str, &'a str>> {
    let mut distinct: Vec<&str> = Vec::new();
    let mut known = HashMap::new();
    for video in videos {
        known.entry(video).or_insert_with(|| distinct.push(video));
    }
    let next = distinct.iter().cycle().skip(1);
    (distinct.len() > 1).then(|| distinct.iter().copied().zip(next.copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_video_is_replaced_by_another_one() {
        let next = next_of_each(["a", "a", "b", "c", "b"].into_iter()).unwrap();
        assert_eq!((next["a"], next["b"], next["c"], next.len()), ("b", "c", "a", 3));
        assert_eq!(next_of_each(["a", "a"].into_iter()), None);
        assert_eq!(next_of_each(std::iter::empty()), None);
    }
}
