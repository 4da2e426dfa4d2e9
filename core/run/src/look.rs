//! Looks at videos: which draw of its frames a video is seen by.

use std::path::Path;

use isr_api::{ComponentError, Frames, Streams, VideoReader, video_key};

/// Name of the streams that frames are drawn by.
const STREAM: &str = "frames";

/// A look at videos. Readers that [draw frames](VideoReader::draws_frames) show other frames in each; to all other readers
/// all looks are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Without a draw, as held-out videos are seen: the same frames always.
    Fixed,
    /// The look of one iteration, or of one epoch of supervised training: frames are drawn by the stream (run seed,
    /// `iteration`, video).
    Drawn {
        /// Random streams of the run.
        streams: Streams,
        /// Iteration from 1, or epoch from 0.
        iteration: u32,
    },
}

impl Look {
    /// Returns the seed by which a reader draws the frames of the video with this [key](video_key); `None` where it draws
    /// none.
    pub fn seed(self, reader: &dyn VideoReader, key: &str) -> Option<u64> {
        match self {
            Self::Drawn { streams, iteration } if reader.draws_frames() => {
                Some(streams.seed(iteration, STREAM, key))
            }
            _ => None,
        }
    }

    /// Decodes the frames of a video as this look sees it. `known_as` is the video's name in the run, by which frames are
    /// drawn, where that is not its path here.
    ///
    /// # Errors
    /// Those of the reader.
    pub async fn read(
        self,
        reader: &dyn VideoReader,
        video: &Path,
        known_as: Option<&str>,
    ) -> Result<Frames, ComponentError> {
        let seed = match known_as {
            Some(key) => self.seed(reader, key),
            None => self.seed(reader, &video_key(video)),
        };
        match seed {
            Some(seed) => reader.draw(video, seed).await,
            None => reader.read(video).await,
        }
    }
}
