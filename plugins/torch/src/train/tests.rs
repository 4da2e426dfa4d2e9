//! Single gradients against torch's autograd (goldens of transformers 5.23.0).

use std::path::PathBuf;
use std::sync::Arc;

use isr_core::{
    ComponentError, Continuation, Frames, Granularity, ObjectiveBatch, ObjectiveValue, PreferenceObjective,
    Prompt, Requirements, Scene, Target, TrainExample, TrainStep, View,
};
use tch::{Device, Kind, Tensor};

use super::{Trainer, TrainingConfig};
use crate::chat::Chat;
use crate::engine::to_vec;
use crate::model::VideoLmm;
use crate::tensors::read_tensors;

struct Dpo;

impl PreferenceObjective for Dpo {
    fn requirements(&self) -> Requirements {
        let views = vec![View::Chosen, View::Rejected];
        Requirements { views, granularity: Granularity::Summed, reference: true }
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let (chosen, rejected) = (batch.view(View::Chosen)?, batch.view(View::Rejected)?);
        let margin =
            (chosen.policy[0] - chosen.reference[0]) - (rejected.policy[0] - rejected.reference[0]);
        let wrong = 1.0 / (1.0 + (0.1 * margin).exp());
        let gradients = vec![vec![-0.1 * wrong], vec![0.1 * wrong]];
        Ok(ObjectiveValue { loss: -(1.0 - wrong).ln(), gradients, metrics: Default::default() })
    }
}

/// The repository's goldens, or those that `make.py` has put into `ISR_GOLDEN`.
fn golden() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    std::env::var_os("ISR_GOLDEN").map_or(own, PathBuf::from)
}

/// The golden files' pseudo-video.
fn frames(json: &serde_json::Value) -> Frames {
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
    let timestamps = (0..count).map(|t| t as f64 / fps).collect();
    Frames { width: width as u32, height: height as u32, rgb, timestamps }
}

#[test]
fn gradients_of_tower_projector_and_decoder_equal_autograd() {
    for family in ["llava", "video_llava", "llava_next_video", "qwen2_5_vl", "qwen3_vl"] {
        let text = std::fs::read_to_string(golden().join(format!("{family}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = read_tensors(&golden().join(format!("{family}.safetensors"))).unwrap();
        let folder = golden().join(format!("tiny_{family}"));
        let mut model = VideoLmm::load(&folder, None, Kind::Float, Device::Cpu).unwrap();
        let model_family = model.config.family;
        let chat = Chat::read(&folder, &model.config).unwrap();
        let ours = |name: &str| model_family.canonical(name);
        let config = TrainingConfig { projector: true, tower: true, ..TrainingConfig::default() };
        let mut trainer = Trainer::new(config, &model).unwrap();
        let scene = Scene { video: "v".into(), frames: Arc::new(frames(&json)), features: None };
        let target = |name: &str| {
            let ids = serde_json::from_value(json["responses"][format!("{name}_ids")].clone()).unwrap();
            let reference = to_vec(&expected[&format!("{name}_ref_logps")]).unwrap();
            Target { continuation: Continuation::Tokens(ids), reference: Some(reference) }
        };
        let prompt = Prompt::about(&scene, json["question"].as_str().unwrap());
        let prompt = match json["prompt"].as_str().unwrap().split_once(" USER:") {
            Some((system, _)) => prompt.with_system(system),
            None => prompt,
        };
        let example = TrainExample { prompt, chosen: target("chosen"), rejected: Some(target("rejected")) };
        let step = TrainStep { examples: vec![example], step: 0, learning_rate: 0.0, max_grad_norm: None };
        trainer.step(&mut model, &chat, &step, &Dpo).unwrap();
        let gradients: Vec<(&str, &Tensor)> = expected
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix("grad.")?, tensor)))
            .collect();
        assert!(gradients.len() >= 6, "{family}");
        for (name, expected) in gradients {
            let got = model.weights.get(&ours(name)).unwrap().grad();
            let difference = f64::try_from((got - expected).abs().max()).unwrap();
            let scale = f64::try_from(expected.abs().max()).unwrap();
            assert!(difference < 1e-4 * scale.max(0.1), "{family} {name}: {difference} of {scale}");
        }
        let norms = json["grad_norms"].as_object().unwrap();
        for (name, norm) in norms.iter().filter_map(|(name, norm)| Some((name, norm.as_f64()?))) {
            let got = f64::try_from(model.weights.get(&ours(name)).unwrap().grad().norm()).unwrap();
            assert!((got - norm).abs() < 1e-4 * norm.max(0.1), "{family} {name}: {got} {norm}");
        }
    }
}
