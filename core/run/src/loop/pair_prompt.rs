//! The prompt of a preference pair: its video or none, earlier turns, the instruction.

use isr_api::records::PairRecord;
use isr_api::{ComponentError, Prompt};

use crate::look::Look;
use crate::video_cache::VideoCache;

/// Builds the prompt of a pair, whose video a look sees; decodes the video again if it was evicted from memory. With `crop` the video is cropped to
/// the window drawn by that seed.
///
/// # Errors
/// Those of the reader and the encoder; [`ComponentError::BadInput`] where a pair without a video is to be cropped.
pub(super) async fn prompt_of(
    videos: &VideoCache,
    look: Look,
    pair: &PairRecord,
    crop: Option<u64>,
) -> Result<Prompt, ComponentError> {
    let scene = match (pair.video.as_str(), crop) {
        ("", None) => None,
        ("", Some(_)) => {
            let text = "the objective compares with a corrupted video, and the pair has no video";
            return Err(ComponentError::bad_input(text));
        }
        (video, None) => Some(videos.open(video.as_ref(), look).await?),
        (video, Some(seed)) => Some(videos.cropped(video.as_ref(), look, seed).await?),
    };
    Ok(Prompt::conversation(scene.as_ref(), &pair.turns, pair.prompt.clone()))
}
