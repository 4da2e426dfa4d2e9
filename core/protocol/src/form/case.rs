//! Cases.

use isr_api::{JudgeCase, RetrospectionCase, VideoInput};
use serde_json::{Value, json};

/// A video without its pixels, which a plugin asks for.
fn scene(scene: &VideoInput) -> Value {
    let frames = &scene.frames;
    json!({
        "video": scene.key(),
        "width": frames.width,
        "height": frames.height,
        "timestamps": frames.timestamps,
    })
}

pub(crate) fn judge_case(case: &JudgeCase) -> Value {
    json!({
        "scene": scene(&case.scene),
        "instruction": case.instruction,
        "context": case.context,
        "first": case.first,
        "second": case.second,
        "seed": case.seed,
    })
}

pub(crate) fn retrospection_case(case: &RetrospectionCase) -> Value {
    json!({ "scene": scene(&case.scene), "previous": case.previous, "seed": case.seed })
}
