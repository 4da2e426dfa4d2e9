//! Test inputs: ordinary cases, and rare texts that break careless components.

use std::path::PathBuf;
use std::sync::Arc;

use isr_api::{
    Fingerprint, FinishReason, Frames, JudgeCase, LabelledSample, Response, RetrospectionCase, Sample,
    VideoInput, VisualContext,
};

/// A clip of `count` frames of a size in pixels, with varying colours and one frame per second.
pub fn frames(count: u8, width: u32, height: u32) -> Frames {
    let bytes = usize::from(count) * width as usize * height as usize * 3;
    let rgb = (0..bytes).map(|index| (index * 37 % 251) as u8).collect();
    let timestamps = (0..count).map(f64::from).collect();
    Frames { width, height, rgb, timestamps, duration: f64::from(count) }
}

/// A video of two 4 x 4 frames, without features.
pub fn scene() -> VideoInput {
    scene_named("clips/7.mp4")
}

/// [`scene`] with another path.
pub fn scene_named(path: &str) -> VideoInput {
    VideoInput { video: PathBuf::from(path), frames: Arc::new(frames(2, 4, 4)), features: None }
}

/// A response with one token per byte, each of log-prob -0.5.
pub fn response(text: &str) -> Response {
    let token_ids: Vec<u32> = text.bytes().map(u32::from).collect();
    let logprobs = vec![-0.5; token_ids.len()];
    let policy = Fingerprint::of("contract");
    Response {
        text: text.to_owned(),
        token_ids,
        logprobs,
        finish_reason: FinishReason::Stop,
        policy,
        reasoning: None,
    }
}

/// A visual context of [`scene`], of iteration 2.
pub fn context(text: &str) -> VisualContext {
    let (video, text) = (scene().key(), text.to_owned());
    VisualContext { video, iteration: 2, parent: Some(1), parent_of: None, text }
}

/// A judge case with these two answers and a context; its seed is 11.
pub fn case(first: &str, second: &str) -> JudgeCase {
    JudgeCase {
        scene: scene(),
        instruction: "what colour is the bar?".to_owned(),
        context: Some(context("a red bar moves to the left.")),
        first: response(first),
        second: response(second),
        seed: 11,
    }
}

/// A retrospection case with an optional previous description; its seed is 11.
pub fn retrospection(previous: Option<&str>) -> RetrospectionCase {
    RetrospectionCase { scene: scene(), previous: previous.map(context), seed: 11 }
}

/// A held-out sample of [`scene`] without facts; its reference answer is "the bar is red.".
pub fn labelled_sample() -> LabelledSample {
    let (video, instruction) = (scene().video, "what colour is the bar?".to_owned());
    let sample = Sample { id: "s7".into(), video, instruction };
    LabelledSample { sample, reference: "the bar is red.".to_owned(), facts: serde_json::Value::Null }
}

/// Ordinary judge cases: several answers and seeds, with and without a context.
pub fn cases() -> Vec<JudgeCase> {
    const ANSWERS: [(&str, &str); 4] = [
        ("the bar is red.", "the bar is blue. it moves to the left."),
        ("as an AI I cannot see the video.", "it moves."),
        ("same", "same"),
        ("A", "B"),
    ];
    let mut cases = Vec::new();
    for (first, second) in ANSWERS {
        for seed in [0, 1, u64::MAX] {
            for with_context in [true, false] {
                let mut case = case(first, second);
                case.seed = seed;
                case.context = case.context.filter(|_| with_context);
                cases.push(case);
            }
        }
    }
    cases
}

/// Hostile texts, each with its description.
pub fn hostile_texts() -> Vec<(&'static str, String)> {
    vec![
        ("an empty text", String::new()),
        ("white space", " \n\t\r\n ".to_owned()),
        ("a zero byte", "a\0b".to_owned()),
        (
            "letters of many scripts",
            "\u{1f600} \u{e9}t\u{e9} \u{5d0}\u{5d1} \u{202e}abc \u{fe0f}".to_owned(),
        ),
        ("a template", "{{ question }} {% if %} ${HOME} %s".to_owned()),
        ("JSON and quotes", "{\"a\": [1, \"\\\"\"]}\n'\"\"\"'".to_owned()),
        ("special tokens", "</s> <|im_end|> <image> USER: ASSISTANT:".to_owned()),
        ("a megabyte", "the bar is red. ".repeat(1 << 16)),
    ]
}
