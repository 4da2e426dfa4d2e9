//! The protocol's messages on the side of the hosting process.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use isr_api::messages::{
    BatchMessage, DescribeMessage, FrameMessage, JudgeMessage, MessageError, VideoInfo,
};
use isr_api::{ComponentError, Frames, JudgeCase, ObjectiveBatch, RetrospectionCase, VideoInput};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::pipe::Pipe;

/// Reads parameters.
pub(super) fn read<T: DeserializeOwned>(params: Value) -> Result<T, ComponentError> {
    serde_json::from_value(params).map_err(ComponentError::failed)
}

/// Writes parameters or a value.
pub(super) fn write(message: impl Serialize) -> Result<Value, ComponentError> {
    serde_json::to_value(message).map_err(ComponentError::failed)
}

/// Fetches all frames of the case's video: a component may look at any of them.
async fn video(pipe: &Pipe, call: u64, info: &VideoInfo) -> Result<VideoInput, ComponentError> {
    let VideoInfo { video, width, height, timestamps } = info.clone();
    let mut rgb = Vec::new();
    for index in 0..timestamps.len() {
        let frame: String = pipe.ask(call, "frame", write(FrameMessage { index })?).await?;
        rgb.extend(STANDARD.decode(frame).map_err(ComponentError::failed)?);
    }
    let frames = Arc::new(Frames::new(width, height, rgb, timestamps)?);
    Ok(VideoInput { video: PathBuf::from(video), frames, features: None })
}

/// The case of `judge`.
pub(super) async fn judge_case(pipe: &Pipe, call: u64, params: Value) -> Result<JudgeCase, ComponentError> {
    let case: JudgeMessage<VideoInfo> = read(params)?;
    let input = video(pipe, call, &case.scene).await?;
    Ok(case.into_case(input))
}

/// The case of `describe`.
pub(super) async fn retrospection_case(
    pipe: &Pipe,
    call: u64,
    params: Value,
) -> Result<RetrospectionCase, ComponentError> {
    let case: DescribeMessage<VideoInfo> = read(params)?;
    let input = video(pipe, call, &case.scene).await?;
    Ok(case.into_case(input))
}

/// The batch of `evaluate`.
pub(super) fn batch(params: Value) -> Result<ObjectiveBatch, ComponentError> {
    let batch: BatchMessage<Vec<f64>> = read(params)?;
    batch.into_batch(Ok::<_, MessageError>).map_err(ComponentError::failed)
}
