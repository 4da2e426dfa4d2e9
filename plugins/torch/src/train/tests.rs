//! Single gradients against torch's autograd (goldens of transformers 5.23.0).

use std::path::PathBuf;
use std::sync::Arc;

use isr_api::{
    ComponentError, Continuation, Frames, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Prompt,
    PromptedTarget, Requirements, Target, TrainExample, TrainStep, VideoInput, View,
};
use tch::{Device, Kind, Tensor};

use super::{Trainer, TrainingConfig};
use crate::chat::Chat;
use crate::model::VideoLmm;
use crate::tensors::{read_tensors, to_vec};

struct Dpo;

impl PreferenceObjective for Dpo {
    fn requirements(&self) -> Requirements {
        Requirements::new([View::Chosen, View::Rejected]).with_reference()
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
    Frames::new(width as u32, height as u32, rgb, timestamps).unwrap()
}

#[test]
fn gradients_of_tower_projector_and_decoder_equal_autograd() {
    let llava = ["llava", "video_llava", "llava_next_video", "llava_onevision", "internvl", "internvl3_5"];
    let qwen = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"];
    for family in llava.into_iter().chain(qwen) {
        let text = std::fs::read_to_string(golden().join(format!("{family}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = read_tensors(&golden().join(format!("{family}.safetensors"))).unwrap();
        let folder = golden().join(format!("tiny_{family}"));
        let mut model = VideoLmm::load(&folder, None, Kind::Float, Device::Cpu).unwrap();
        let names = model.config.names;
        let chat =
            Chat::read(&folder, &model.config, None, &crate::chat::ReasoningConfig::default()).unwrap();
        let ours = |name: &str| names.canonical(name);
        let config = TrainingConfig { projector: true, tower: true, ..TrainingConfig::default() };
        let mut trainer = Trainer::new(config, &model, None).unwrap();
        let scene = VideoInput { video: "v".into(), frames: Arc::new(frames(&json)), features: None };
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
        let example = TrainExample::new(prompt, target("chosen"), Some(target("rejected")));
        let step = TrainStep {
            examples: vec![example],
            step: 0,
            learning_rate: 0.0,
            max_grad_norm: None,
            seed: 0,
        };
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

/// The sum of all log-probs, each times what stands for its reference.
struct Weighed(Vec<View>);

impl PreferenceObjective for Weighed {
    fn requirements(&self) -> Requirements {
        Requirements::new(self.0.clone()).per_token().with_reference()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let all = batch.views.iter().flat_map(|view| view.policy.iter().zip(&view.reference));
        let loss = all.map(|(logprob, weight)| logprob * weight).sum();
        let gradients = batch.views.iter().map(|view| view.reference.clone()).collect();
        Ok(ObjectiveValue { loss, gradients, metrics: Default::default() })
    }
}

/// One example with all views is read as a row of two prompts; its gradient is that of four plain examples.
#[test]
fn further_views_have_the_gradients_of_plain_examples() {
    for family in ["llava", "qwen3_vl"] {
        let text = std::fs::read_to_string(golden().join(format!("{family}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let folder = golden().join(format!("tiny_{family}"));
        let whole = Arc::new(frames(&json));
        let mut part = (*whole).clone();
        part.rgb.iter_mut().for_each(|value| *value /= 3);
        let prompt = |frames: &Arc<Frames>| {
            let scene = VideoInput { video: "v".into(), frames: Arc::clone(frames), features: None };
            Prompt::about(&scene, json["question"].as_str().unwrap())
        };
        let (plain, corrupted) = (prompt(&whole), prompt(&Arc::new(part)));
        let target = |name: &str, take: usize, weight: f32| {
            let ids: Vec<u32> =
                serde_json::from_value(json["responses"][format!("{name}_ids")].clone()).unwrap();
            let ids: Vec<u32> = ids.into_iter().take(take).collect();
            let weights = (0..ids.len()).map(|place| weight + 0.1 * place as f32).collect();
            Target { continuation: Continuation::Tokens(ids), reference: Some(weights) }
        };
        let (chosen, rejected) = (target("chosen", 9, -1.0), target("rejected", 7, 0.5));
        let (again, other) = (target("chosen", 9, 0.7), target("rejected", 3, -0.3));
        let example = TrainExample {
            corrupted: Some(PromptedTarget { prompt: corrupted.clone(), target: again.clone() }),
            mismatched: Some(other.clone()),
            ..TrainExample::new(plain.clone(), chosen.clone(), Some(rejected.clone()))
        };
        let answers = [(&plain, chosen), (&plain, rejected), (&corrupted, again), (&plain, other)];
        let demonstrations =
            answers.map(|(prompt, target)| TrainExample::new(prompt.clone(), target, None)).to_vec();
        let run = |examples: Vec<TrainExample>, views: Vec<View>, gradient_checkpointing: bool| {
            let mut model = VideoLmm::load(&folder, None, Kind::Float, Device::Cpu).unwrap();
            let chat =
                Chat::read(&folder, &model.config, None, &crate::chat::ReasoningConfig::default()).unwrap();
            let config = TrainingConfig {
                projector: true,
                tower: true,
                gradient_checkpointing,
                ..TrainingConfig::default()
            };
            let mut trainer = Trainer::new(config, &model, None).unwrap();
            let step = TrainStep { examples, step: 0, learning_rate: 0.0, max_grad_norm: None, seed: 0 };
            let report = trainer.step(&mut model, &chat, &step, &Weighed(views)).unwrap();
            (report, model)
        };
        let (expected, reference) = run(demonstrations, vec![View::Chosen], false);
        for gradient_checkpointing in [false, true] {
            let (report, model) = run(vec![example.clone()], View::ALL.to_vec(), gradient_checkpointing);
            assert_eq!(report.tokens, expected.tokens);
            let close = |got: f64, wanted: f64| (got - wanted).abs() < 1e-4 * wanted.abs().max(1.0);
            assert!(close(report.loss, expected.loss), "{family}: {} {}", report.loss, expected.loss);
            assert!(close(report.grad_norm, expected.grad_norm), "{family}: {report:?} {expected:?}");
            let mut compared = 0;
            for (name, tensor) in model.weights.frozen() {
                let (got, wanted) = (tensor.grad(), reference.weights.get(name).unwrap().grad());
                if !wanted.defined() {
                    continue;
                }
                let difference = f64::try_from((&got - &wanted).abs().max()).unwrap();
                let scale = f64::try_from(wanted.abs().max()).unwrap();
                assert!(difference < 1e-4 * scale.max(0.1), "{family} {name}: {difference} of {scale}");
                compared += 1;
            }
            assert!(compared > 20, "{compared}");
        }
    }
}

/// Without the decoder, examples do not attend to each other, and tower and embeddings learn.
#[test]
fn skip_decoder_leaves_the_layers_out_and_keeps_examples_apart() {
    let text = std::fs::read_to_string(golden().join("llava.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let folder = golden().join("tiny_llava");
    let example = |shade: u8, take: usize| {
        let mut frames = frames(&json);
        frames.rgb.iter_mut().for_each(|value| *value /= shade);
        let scene = VideoInput { video: "v".into(), frames: Arc::new(frames), features: None };
        let ids: Vec<u32> = serde_json::from_value(json["responses"]["chosen_ids"].clone()).unwrap();
        let ids: Vec<u32> = ids.into_iter().take(take).collect();
        let reference = Some(vec![-1.0; ids.len()]);
        let target = Target { continuation: Continuation::Tokens(ids), reference };
        TrainExample::new(Prompt::about(&scene, "what is it?"), target, None)
    };
    let run = |examples: Vec<TrainExample>| {
        let mut model = VideoLmm::load(&folder, None, Kind::Float, Device::Cpu).unwrap();
        let chat =
            Chat::read(&folder, &model.config, None, &crate::chat::ReasoningConfig::default()).unwrap();
        let config = TrainingConfig {
            projector: true,
            tower: true,
            skip_decoder: true,
            ..TrainingConfig::default()
        };
        let mut trainer = Trainer::new(config, &model, None).unwrap();
        let step = TrainStep { examples, step: 0, learning_rate: 0.0, max_grad_norm: None, seed: 0 };
        let report = trainer.step(&mut model, &chat, &step, &Weighed(vec![View::Chosen])).unwrap();
        (report, model)
    };
    let ((one, first), (other, second)) = (run(vec![example(1, 9)]), run(vec![example(3, 4)]));
    let (both, model) = run(vec![example(1, 9), example(3, 4)]);
    assert!((both.loss - (one.loss + other.loss)).abs() < 1e-3, "{both:?} {one:?} {other:?}");
    let mut learned = Vec::new();
    for (name, tensor) in model.weights.frozen().filter(|(_, tensor)| tensor.grad().defined()) {
        let alone = |model: &VideoLmm| model.weights.get(name).unwrap().grad();
        let wanted = alone(&first) + alone(&second);
        let difference = f64::try_from((tensor.grad() - &wanted).abs().max()).unwrap();
        assert!(difference < 1e-4 * f64::try_from(wanted.abs().max()).unwrap().max(0.1), "{name}");
        learned.push(name.as_str());
    }
    let among = |part: &str| learned.iter().any(|name| name.contains(part));
    assert!(["vision", "projector", "embed_tokens", "lm_head", "model.norm"].into_iter().all(among));
    assert!(!among("language_model.model.layers"), "{learned:?}");
}
