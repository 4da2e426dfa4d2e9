//! What the policy is asked to learn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use isr_api::records::{PairRecord, ResponseRecord, TrainRecord};
use isr_api::{Continuation, Event, Observer, Part, Stage, Streams, TrainExample, TrainStep};
use isr_run::store::read_journal;

use crate::bench::{Fakes, Settings, run, run_under, run_with, scratch};
use crate::control::{Act, Call, Control};

/// A finished run of one iteration: what it journalled and what its policy was asked.
struct Finished {
    settings: Settings,
    responses: HashMap<String, ResponseRecord>,
    pairs: Vec<PairRecord>,
    metrics: Vec<TrainRecord>,
    steps: Vec<TrainStep>,
}

async fn finished() -> Finished {
    let dir = scratch();
    let mut settings = Settings::default();
    settings.r#loop.iterations = 1;
    let fakes = Fakes::new(&Arc::default());
    run_with(dir.path(), &settings, fakes.components.clone()).await.unwrap();
    let folder = dir.path().join("iteration-01");
    let responses = read_journal::<ResponseRecord>(&folder.join("responses.jsonl")).unwrap();
    let steps = fakes.policy.steps.lock().unwrap().clone();
    Finished {
        settings,
        responses: responses.into_iter().map(|record| (record.instruction.clone(), record)).collect(),
        pairs: read_journal(&folder.join("pairs.jsonl")).unwrap(),
        metrics: read_journal(&folder.join("metrics.jsonl")).unwrap(),
        steps,
    }
}

/// The instruction, which is different for each sample.
fn instruction(example: &TrainExample) -> String {
    let [Part::Video(_), Part::Text(text)] = example.prompt.messages[0].parts.as_slice() else {
        panic!("{:?}", example.prompt)
    };
    text.clone()
}

#[tokio::test]
async fn each_epoch_goes_through_all_pairs_in_an_order_of_its_own() {
    let Finished { pairs, steps, .. } = finished().await;
    assert_eq!(pairs.len(), 7);
    let sizes: Vec<usize> = steps.iter().map(|step| step.examples.len()).collect();
    assert_eq!(sizes, [2, 2, 2, 1, 2, 2, 2, 1]);
    let order = |steps: &[TrainStep]| -> Vec<String> {
        steps.iter().flat_map(|step| step.examples.iter().map(instruction)).collect()
    };
    let (first, second) = (order(&steps[..4]), order(&steps[4..]));
    assert_ne!(first, second);
    let mut all: Vec<String> = pairs.iter().map(|pair| pair.prompt.clone()).collect();
    for mut epoch in [first, second] {
        epoch.sort();
        all.sort();
        assert_eq!(epoch, all);
    }
}

#[tokio::test]
async fn steps_follow_the_schedule() {
    let Finished { settings, metrics, steps, .. } = finished().await;
    for (index, (step, record)) in steps.iter().zip(&metrics).enumerate() {
        let learning_rate = settings.train.learning_rate_at(index as u64, 8);
        assert_eq!((step.step, step.learning_rate), (index as u64, learning_rate));
        assert_eq!((record.step, record.learning_rate), (index as u64, learning_rate));
        assert_eq!(record.epoch, index as u64 / 4);
        assert_eq!(step.max_grad_norm, settings.train.max_grad_norm);
        assert_eq!(step.seed, Streams::new(settings.seed).seed(1, "train", &index.to_string()));
    }
    assert_eq!((steps.len(), metrics.len()), (8, 8));
}

#[tokio::test]
async fn the_reference_is_what_was_recorded_while_sampling() {
    let Finished { responses, pairs, steps, .. } = finished().await;
    let pairs: HashMap<_, _> = pairs.iter().map(|pair| (pair.prompt.clone(), pair)).collect();
    for example in steps.iter().flat_map(|step| &step.examples) {
        let (record, pair) = (&responses[&instruction(example)], pairs[&instruction(example)]);
        let rejected = example.rejected.as_ref().unwrap();
        for (target, index) in [(&example.chosen, pair.chosen_index), (rejected, pair.rejected_index)] {
            let response = &record.responses[index];
            assert_eq!(target.reference.as_ref(), Some(&response.logprobs));
            let Continuation::Tokens(tokens) = &target.continuation else { panic!("{target:?}") };
            assert_eq!(tokens, &response.token_ids);
        }
    }
}

#[tokio::test]
async fn the_first_loss_is_that_of_a_policy_equal_to_its_reference() {
    let Finished { metrics, .. } = finished().await;
    assert!((metrics[0].report.loss - std::f64::consts::LN_2).abs() < 1e-12);
    assert_eq!(metrics[0].report.metrics["reward_margin"], 0.0);
}

#[tokio::test]
async fn videos_of_the_next_step_are_read_while_a_step_is_taken() {
    let mut settings = Settings::default();
    settings.r#loop.iterations = 1;
    settings.r#loop.concurrency = 1;
    settings.r#loop.feature_cache_mb = 0;
    let brief = |call: &Call<'_>| match call.name.starts_with("train ") || call.name.starts_with("read ") {
        true => Act::Sleep(Duration::from_millis(5)),
        false => Act::Work,
    };
    let control = Arc::new(Control::with(brief));
    run_under(scratch().path(), &settings, &control).await.unwrap();
    // Stages have one item under way.
    assert_eq!(control.most_under_way(), 2);
}

/// Busy seconds of each stage.
#[derive(Default)]
struct Busy(Mutex<Vec<(Stage, Option<f64>)>>);

impl Observer for Busy {
    fn observe(&self, event: &Event<'_>) {
        if let Event::StageFinished { iteration: 1, stage, busy, .. } = event {
            self.0.lock().unwrap().push((*stage, *busy));
        }
    }
}

#[tokio::test]
async fn a_stage_tells_how_long_the_device_had_work() {
    let busy = Arc::<Busy>::default();
    let mut settings = Settings { observers: vec![busy.clone()], ..Settings::default() };
    settings.r#loop.iterations = 1;
    run(scratch().path(), &settings).await.unwrap();
    let busy = busy.0.lock().unwrap();
    // The fake policy counts a second for each of its 8 steps.
    let expected = |stage: Stage| Some(if stage == Stage::Train { 8.0 } else { 0.0 });
    assert!(busy.iter().all(|(stage, busy)| *busy == expected(*stage)), "{busy:?}");
    assert!(busy.len() > 3, "{busy:?}");
}
