//! Cases, batches and values as the protocol has them.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use isr_api::{
    ComponentError, Frames, Granularity, JudgeCase, ObjectiveBatch, ObjectiveValue, Requirements, Response,
    RetrospectionCase, VideoInput, View, ViewLogProbs, VisualContext,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::pipe::Pipe;

#[derive(Deserialize)]
struct SceneForm {
    video: PathBuf,
    width: u32,
    height: u32,
    timestamps: Vec<f64>,
}

#[derive(Deserialize)]
struct JudgeForm {
    scene: SceneForm,
    instruction: String,
    context: Option<VisualContext>,
    first: Response,
    second: Response,
    seed: u64,
}

#[derive(Deserialize)]
struct DescribeForm {
    scene: SceneForm,
    previous: Option<VisualContext>,
    seed: u64,
}

#[derive(Deserialize)]
struct BatchForm {
    views: Vec<ViewForm>,
}

#[derive(Deserialize)]
struct ViewForm {
    view: String,
    policy: Vec<f64>,
    reference: Vec<f64>,
    lengths: Vec<usize>,
}

fn read<T: for<'de> Deserialize<'de>>(params: Value) -> Result<T, ComponentError> {
    serde_json::from_value(params).map_err(ComponentError::failed)
}

/// A component may look at all frames, so all are fetched before it is called.
async fn scene(pipe: &Pipe, call: u64, form: SceneForm) -> Result<VideoInput, ComponentError> {
    let SceneForm { video, width, height, timestamps } = form;
    let mut rgb = Vec::new();
    for index in 0..timestamps.len() {
        let frame: String = pipe.ask(call, "frame", json!({ "index": index })).await?;
        rgb.extend(STANDARD.decode(frame).map_err(ComponentError::failed)?);
    }
    Ok(VideoInput { video, frames: Arc::new(Frames { width, height, rgb, timestamps }), features: None })
}

pub(super) async fn judge_case(pipe: &Pipe, call: u64, params: Value) -> Result<JudgeCase, ComponentError> {
    let JudgeForm { scene: of, instruction, context, first, second, seed } = read(params)?;
    let scene = scene(pipe, call, of).await?;
    Ok(JudgeCase { scene, instruction, context, first, second, seed })
}

pub(super) async fn retrospection_case(
    pipe: &Pipe,
    call: u64,
    params: Value,
) -> Result<RetrospectionCase, ComponentError> {
    let DescribeForm { scene: of, previous, seed } = read(params)?;
    Ok(RetrospectionCase { scene: scene(pipe, call, of).await?, previous, seed })
}

pub(super) fn batch(params: Value) -> Result<ObjectiveBatch, ComponentError> {
    let view = |form: ViewForm| {
        let ViewForm { view: name, policy, reference, lengths } = form;
        let view = View::named(&name)
            .ok_or_else(|| ComponentError::failed(format!("there is no view `{name}`")))?;
        Ok(ViewLogProbs { view, policy, reference, lengths })
    };
    let form: BatchForm = read(params)?;
    Ok(ObjectiveBatch { views: form.views.into_iter().map(view).collect::<Result<_, _>>()? })
}

/// JSON has no number that is none, and writing null for it would hide a fault.
pub(super) fn value(value: &ObjectiveValue) -> Result<Value, ComponentError> {
    let ObjectiveValue { loss, gradients, metrics } = value;
    let numbers = gradients.iter().flatten().chain(metrics.values()).chain([loss]);
    match numbers.into_iter().find(|number| !number.is_finite()) {
        Some(number) => Err(ComponentError::failed(format!("its value has the number {number}"))),
        None => Ok(json!({ "loss": loss, "gradients": gradients, "metrics": metrics })),
    }
}

pub(super) fn requirements(wanted: &Requirements) -> Value {
    let granularity = match wanted.granularity {
        Granularity::Summed => "summed",
        Granularity::PerToken => "per_token",
    };
    let views: Vec<&str> = wanted.views.iter().map(|view| view.name()).collect();
    json!({ "views": views, "granularity": granularity, "reference": wanted.reference })
}
