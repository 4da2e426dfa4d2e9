//! Preprocessing and positions against transformers 5.23.0 (goldens), family by family.

use std::path::PathBuf;

use isr_api::{Frames, Prompt, VideoInput};
use proptest::prelude::*;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::decoder::AttentionMode;
use super::families::read_config;
use super::positions::Positions;
use super::preprocess::ImageProcessor;
use super::{Sequence, Slot, VideoLmm};
use crate::chat::Chat;
use crate::tensors::{read_tensors, to_vec};

/// The repository's goldens, or those that `make.py` has put into `ISR_GOLDEN`.
fn golden() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    std::env::var_os("ISR_GOLDEN").map_or(own, PathBuf::from)
}

/// The golden files' pseudo-video.
fn frames(json: &Value) -> Frames {
    let value = |t: i64, y: i64, x: i64, c: i64| {
        (x * 3 + y * 5 + t * 17 + c * 53 + ((x * y) >> 3) * 7 + ((x ^ y) * (t + 1))) % 256
    };
    let side = |index: usize| json["source_hw"][index].as_i64().unwrap();
    let (height, width) = (side(0), side(1));
    let count = json["frames"].as_i64().unwrap();
    let mut rgb = Vec::new();
    for (t, y) in (0..count).flat_map(|t| (0..height).map(move |y| (t, y))) {
        rgb.extend(
            (0..width).flat_map(|x| (0..3).map(move |c| (x, c))).map(|(x, c)| value(t, y, x, c) as u8),
        );
    }
    let fps = json["fps"].as_f64().unwrap_or(1.0);
    let all = json["clip_frames"].as_i64().unwrap_or(count);
    let timestamps = (0..count).map(|t| (t * (all - 1) / (count - 1)) as f64 / fps).collect();
    Frames::new(width as u32, height as u32, rgb, timestamps).unwrap().with_duration(all as f64 / fps)
}

fn json(family: &str) -> Value {
    let text = std::fs::read_to_string(golden().join(format!("{family}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn pixels_equal_the_references_processors() {
    for (family, every) in [
        ("llava_next_video", 4),
        ("qwen2_vl", 16),
        ("qwen2_5_vl", 16),
        ("qwen3_vl", 16),
        ("llava_onevision", 4),
        ("internvl", 4),
        ("internvl3_5", 4),
    ] {
        let config = read_config(&golden().join(format!("tiny_{family}"))).unwrap();
        let tensors = read_tensors(&golden().join(format!("{family}.safetensors"))).unwrap();
        let expected = &tensors[&format!("proc.pixel_values_videos.every_{every}th")];
        let prepared = config.processor.process(&frames(&json(family))).unwrap();
        let rows =
            Tensor::arange_start_step(0, prepared.pixels.size()[0], every, (Kind::Int64, tch::Device::Cpu));
        let difference = (prepared.pixels.index_select(0, &rows) - expected).abs().max();
        assert!(f64::try_from(difference).unwrap() < 1e-6, "{family}");
        if let Some(grid) = tensors.get("proc.video_grid_thw") {
            let ours = [prepared.grid.steps, prepared.grid.height, prepared.grid.width];
            assert_eq!(Vec::<i64>::try_from(&grid.flatten(0, 1)).unwrap(), ours, "{family}");
        }
    }
}

#[test]
fn positions_equal_the_reference() {
    for (family, model) in [
        ("qwen2_vl", "qwen2_vl"),
        ("qwen2_5_vl", "qwen2_5_vl"),
        ("qwen3_vl", "qwen3_vl"),
        ("qwen2_5_vl_time", "qwen2_5_vl"),
    ] {
        let folder = golden().join(format!("tiny_{model}"));
        let (config, json) = (read_config(&folder).unwrap(), json(family));
        let chat = Chat::read(&folder, &config, None, &crate::chat::ReasoningConfig::default()).unwrap();
        let scene = VideoInput { video: "v".into(), frames: frames(&json).into(), features: None };
        let prompt = Prompt::about(&scene, json["question"].as_str().unwrap());
        let rendered = chat.render(&prompt, |frames| config.layout(frames)).unwrap();
        let tensors = read_tensors(&golden().join(format!("{family}.safetensors"))).unwrap();
        let positions: Vec<_> =
            (0..rendered.slots.len()).map(|index| rendered.positions.at(index)).collect();
        let ours = super::positions::tensor(&positions, tch::Device::Cpu).unwrap();
        assert_eq!(ours, tensors["position_ids"], "{family}");
        if let Some(delta) = tensors.get("rope_deltas") {
            assert_eq!(
                Vec::<i64>::try_from(&delta.flatten(0, 1)).unwrap(),
                [rendered.positions.delta()],
                "{family}"
            );
        }
    }
}

/// Lengths of a prompt and of its answers, for a few prompts.
fn packed_lengths() -> impl Strategy<Value = Vec<(usize, Vec<usize>)>> {
    let lengths = (1_usize..12, prop::collection::vec(0_usize..6, 0..4));
    prop::collection::vec(lengths, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn packed_answers_are_computed_as_if_each_followed_the_prompt_alone(lengths in packed_lengths(), seed in 0_u32..9) {
        for family in ["llava", "qwen3_vl", "qwen3_vl_moe"] {
            side_by_side_and_alone(family, &lengths, seed);
        }
    }
}

/// Final hidden states, and every gradient of their weighted sum: all in one row, and one sequence at a time.
fn side_by_side_and_alone(family: &str, lengths: &[(usize, Vec<usize>)], seed: u32) {
    let folder = golden().join(format!("tiny_{family}"));
    let model = VideoLmm::load(&folder, None, Kind::Float, tch::Device::Cpu).unwrap();
    let weights: Vec<Tensor> = model
        .weights
        .frozen()
        .filter(|(name, _)| name.starts_with("language_model.model."))
        .map(|(_, weight)| weight.set_requires_grad(true))
        .collect();
    let mut next = seed;
    let mut tokens = |count: usize| -> Vec<u32> {
        (0..count)
            .map(|_| {
                next = next * 31 % 89 + 7;
                next
            })
            .collect()
    };
    let texts: Vec<(Vec<Slot>, Vec<Vec<u32>>)> = lengths
        .iter()
        .map(|(prompt, answers)| {
            let prompt = tokens(*prompt).into_iter().map(Slot::Token).collect();
            (prompt, answers.iter().map(|count| tokens(*count)).collect())
        })
        .collect();
    let counted = |count: usize| {
        let mut positions = Positions::default();
        positions.push_text(count);
        positions
    };
    let positions: Vec<Positions> = texts.iter().map(|(prompt, _)| counted(prompt.len())).collect();
    let sequences: Vec<Sequence<'_>> = texts
        .iter()
        .zip(&positions)
        .map(|((slots, answers), positions)| {
            let suffixes = answers.iter().map(Vec::as_slice).collect();
            Sequence { slots, start: 0, positions, features: None, suffixes }
        })
        .collect();
    let hidden = |sequences: &[Sequence<'_>]| {
        let packed: Vec<_> = sequences.iter().map(Sequence::packed).collect();
        let inputs = model.embed(sequences).unwrap();
        model.decoder.forward(&inputs, AttentionMode::Packed(&packed)).unwrap().squeeze_dim(0)
    };
    let together = hidden(&sequences);

    let mut apart = Vec::new();
    for (slots, answers) in &texts {
        let alone = |slots: &[Slot]| {
            let positions = counted(slots.len());
            let suffixes = Vec::new();
            hidden(&[Sequence { slots, start: 0, positions: &positions, features: None, suffixes }])
        };
        apart.push(alone(slots));
        for answer in answers.iter().filter(|answer| !answer.is_empty()) {
            let all: Vec<Slot> =
                slots.iter().copied().chain(answer.iter().map(|&id| Slot::Token(id))).collect();
            apart.push(alone(&all).narrow(0, slots.len() as i64, answer.len() as i64));
        }
    }
    let apart = Tensor::cat(&apart, 0);
    let difference = f64::try_from((&together - &apart).abs().max()).unwrap();
    assert!(difference < 1e-5, "{family}: hidden states differ by {difference}");

    let by =
        Tensor::arange(together.numel() as i64, (Kind::Float, tch::Device::Cpu)).view_as(&together).sin();
    let gradients = |hidden: &Tensor| {
        let sum = (hidden * &by).sum(Kind::Float);
        Tensor::run_backward(&[sum], &weights, true, false)
    };
    for (one, other) in gradients(&together).iter().zip(gradients(&apart)) {
        let scale = f64::try_from(other.abs().max()).unwrap().max(1.0);
        let difference = f64::try_from((one - other).abs().max()).unwrap() / scale;
        assert!(difference < 1e-5, "{family}: gradients differ by {difference} of their largest");
    }
}

/// LanguageBind's transform, written down apart from the crate's own: each pixel of the crop is the
/// weighted mean of the four around its place in the normalised frame.
#[test]
fn llava_hounds_pixels_are_bilinear_without_antialiasing() {
    // Crops begin at 3, at 2 (half of 3, rounded to the even number) and at 2 (half of 5).
    for (width, left) in [(43, 3), (37, 2), (41, 2)] {
        bilinear_without_antialiasing(30, width, left);
    }
}

fn bilinear_without_antialiasing(height: usize, width: usize, left: usize) {
    let side = 14_usize;
    let rgb: Vec<u8> = (0..height * width * 3).map(|i| ((i * i) % 251) as u8).collect();
    let frames = Frames::new(width as u32, height as u32, rgb.clone(), vec![0.0]).unwrap();
    let got = to_vec(&ImageProcessor::LanguageBind(14).process(&frames).unwrap().pixels).unwrap();
    let (mean, std) =
        ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]);
    let scaled_width = side * width / height;
    let place = |index: usize, from: usize, to: usize| {
        let at = ((index as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
        let low = at.floor() as usize;
        (low, (low + 1).min(from - 1), at - at.floor())
    };
    for c in 0..3 {
        let normal =
            |y: usize, x: usize| (f64::from(rgb[(y * width + x) * 3 + c]) / 255.0 - mean[c]) / std[c];
        for y in 0..side {
            for x in 0..side {
                let (top, bottom, down) = place(y, height, side);
                let (west, east, right) = place(x + left, width, scaled_width);
                let upper = normal(top, west) * (1.0 - right) + normal(top, east) * right;
                let lower = normal(bottom, west) * (1.0 - right) + normal(bottom, east) * right;
                let expected = upper * (1.0 - down) + lower * down;
                let got = f64::from(got[(c * side + y) * side + x]);
                assert!((got - expected).abs() < 1e-4, "{c} {y} {x}: {got} {expected}");
            }
        }
    }
}
