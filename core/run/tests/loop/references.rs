//! What an objective asks for beside the two answers of a pair.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use isr_api::records::{PairRecord, QuarantineRecord, ReferenceRecord, ResponseRecord};
use isr_api::{Continuation, Part, Policy, Prompt, ScoreRequest, Target, TrainExample, VideoInput};
use isr_config::ReferenceSource;
use isr_run::store::read_journal;

use crate::bench::{BASE, Fakes, Settings, run_under, run_with, scratch};
use crate::control::{Act, Call, Control};
use crate::fake_policy::FakePolicy;
use crate::fakes::AllViews;

/// One iteration with an objective that asks for all there is.
fn settings() -> Settings {
    let mut settings = Settings { objective: Arc::new(AllViews), ..Settings::default() };
    settings.r#loop.iterations = 1;
    settings
}

fn scene(prompt: &Prompt) -> &VideoInput {
    let [Part::Video(scene), Part::Text(_)] = prompt.messages[0].parts.as_slice() else {
        panic!("{prompt:?}")
    };
    scene
}

fn tokens(target: &Target) -> Vec<u32> {
    let Continuation::Tokens(tokens) = &target.continuation else { panic!("{target:?}") };
    tokens.clone()
}

/// What the policy that the run began with says of a target.
async fn at_the_start(prompt: &Prompt, target: &Target) -> Vec<f32> {
    let policy = FakePolicy::new(BASE, Arc::default());
    let continuations = vec![target.continuation.clone()];
    let request = ScoreRequest { prompt: prompt.clone(), continuations };
    policy.score(request).await.unwrap().remove(0).logprobs
}

#[tokio::test]
async fn the_reference_is_what_the_policy_said_before_it_was_trained() {
    let dir = scratch();
    let fakes = Fakes::new(&Arc::default());
    let mut components = fakes.components.clone();
    components.objective = Arc::new(AllViews);
    run_with(dir.path(), &settings(), components).await.unwrap();
    let steps = fakes.policy.steps.lock().unwrap().clone();
    let examples: Vec<&TrainExample> = steps.iter().flat_map(|step| &step.examples).collect();
    assert_eq!(examples.len(), 14);
    let mut corrupted_otherwise = 0;
    for example in &examples {
        let corrupted = example.corrupted.as_ref().unwrap();
        assert_eq!(tokens(&corrupted.target), tokens(&example.chosen));
        let (whole, part) = (scene(&example.prompt), scene(&corrupted.prompt));
        assert_eq!(corrupted.prompt.transcript(), example.prompt.transcript());
        assert_ne!(part.frames.rgb, whole.frames.rgb);
        assert_eq!(part.frames.timestamps, whole.frames.timestamps);
        assert_eq!(part.features.as_ref().unwrap().shape, whole.features.as_ref().unwrap().shape);
        let said = at_the_start(&corrupted.prompt, &corrupted.target).await;
        corrupted_otherwise += usize::from(Some(&said) != example.chosen.reference.as_ref());
        assert_eq!(corrupted.target.reference, Some(said));
        let mismatched = example.mismatched.as_ref().unwrap();
        assert_eq!(mismatched.reference, Some(at_the_start(&example.prompt, mismatched).await));
    }
    assert!(corrupted_otherwise > 0);
}

#[tokio::test]
async fn a_mismatched_answer_is_another_pairs_and_each_pair_lends_one() {
    let dir = scratch();
    run_under(dir.path(), &settings(), &Arc::default()).await.unwrap();
    let folder = dir.path().join("iteration-01");
    let pairs: Vec<PairRecord> = read_journal(&folder.join("pairs.jsonl")).unwrap();
    let responses: Vec<ResponseRecord> = read_journal(&folder.join("responses.jsonl")).unwrap();
    let responses: HashMap<_, _> = responses.iter().map(|record| (&record.sample, record)).collect();
    let records: Vec<ReferenceRecord> = read_journal(&folder.join("references.jsonl")).unwrap();
    let ids = |records: &mut dyn Iterator<Item = String>| {
        let mut ids: Vec<String> = records.collect();
        ids.sort();
        ids
    };
    let all = ids(&mut pairs.iter().map(|pair| pair.id.to_string()));
    assert_eq!(ids(&mut records.iter().map(|record| record.sample.to_string())), all);
    let lent = |record: &ReferenceRecord| record.mismatched.clone().unwrap();
    assert_eq!(ids(&mut records.iter().map(|record| lent(record).sample.to_string())), all);
    for record in &records {
        let other = lent(record);
        assert_ne!(other.sample, record.sample);
        let pair = pairs.iter().find(|pair| pair.id == other.sample).unwrap();
        assert!([pair.chosen_index, pair.rejected_index].contains(&other.index));
        let answer = &responses[&other.sample].responses[other.index];
        assert_eq!(other.logprobs.len(), answer.token_ids.len());
    }
    let seeds: Vec<u64> = records.iter().map(|record| record.corrupted.as_ref().unwrap().seed).collect();
    assert!(seeds.windows(2).all(|pair| pair[0] != pair[1]));
}

#[tokio::test]
async fn an_objective_of_pairs_leaves_no_references() {
    let dir = scratch();
    let settings = Settings { objective: Settings::default().objective, ..settings() };
    let control = Arc::default();
    run_under(dir.path(), &settings, &control).await.unwrap();
    assert!(!dir.path().join("iteration-01/references.jsonl").exists());
    assert!(!control.counts().contains_key("score"));
}

#[tokio::test]
async fn a_pair_that_cannot_be_scored_is_not_trained_on() {
    let dir = scratch();
    let first = AtomicBool::new(true);
    let rule = move |call: &Call<'_>| match call.name == "score" && first.swap(false, Ordering::SeqCst) {
        true => Act::BadInput("the answer is too long"),
        false => Act::Work,
    };
    let fakes = Fakes::new(&Arc::new(Control::with(rule)));
    let mut components = fakes.components.clone();
    components.objective = Arc::new(AllViews);
    run_with(dir.path(), &settings(), components).await.unwrap();
    let folder = dir.path().join("iteration-01");
    let quarantined: Vec<QuarantineRecord> = read_journal(&folder.join("quarantine.jsonl")).unwrap();
    let [QuarantineRecord { stage, reason, .. }] = quarantined.as_slice() else {
        panic!("{quarantined:?}")
    };
    assert_eq!((stage.as_str(), reason.as_str()), ("reference", "the answer is too long"));
    let steps = fakes.policy.steps.lock().unwrap();
    assert_eq!(steps.iter().map(|step| step.examples.len()).sum::<usize>(), 12);
}

/// The policy of this test records log-probs that are 0.5 too low for each token, as another kernel would.
#[tokio::test]
async fn a_recomputed_reference_is_what_scoring_says_and_the_drift_is_in_the_summary() {
    let dir = scratch();
    let fakes = Fakes::new(&Arc::default());
    *fakes.policy.quirk.lock().unwrap() = Some(|responses| {
        responses.iter_mut().flat_map(|it| &mut it.logprobs).for_each(|logprob| *logprob -= 0.5);
    });
    let mut settings = Settings { objective: Settings::default().objective, ..settings() };
    settings.train.reference = ReferenceSource::Recompute;
    let summary = run_with(dir.path(), &settings, fakes.components.clone()).await.unwrap();
    let steps = fakes.policy.steps.lock().unwrap().clone();
    let mut tokens_of_answers = Vec::new();
    for example in steps.iter().flat_map(|step| &step.examples) {
        for target in [&example.chosen, example.rejected.as_ref().unwrap()] {
            assert_eq!(target.reference, Some(at_the_start(&example.prompt, target).await));
            tokens_of_answers.push(tokens(target).len() as f64);
        }
    }
    let metrics = &summary.iterations[0].training.metrics;
    let mean = tokens_of_answers.iter().sum::<f64>() / tokens_of_answers.len() as f64;
    for (name, value) in [("", 0.5), ("_max", 0.5), ("_sum", 0.5 * mean)] {
        let found = metrics[&format!("sampling_score_drift{name}")];
        assert!((found - value).abs() < 1e-5, "{name}: {found} {value}");
    }
}

#[tokio::test]
async fn a_score_that_is_not_finite_stops_the_run() {
    let fakes = Fakes::new(&Arc::default());
    *fakes.policy.score_quirk.lock().unwrap() = Some(|scores| scores[0].logprobs[0] = f32::NAN);
    let mut components = fakes.components.clone();
    components.objective = Arc::new(AllViews);
    let error = run_with(scratch().path(), &settings(), components).await.unwrap_err();
    assert!(isr_text(&error).contains("the policy returned a log-prob of NaN"), "{error:?}");
}

#[tokio::test]
async fn a_single_pair_has_no_other() {
    let dir = scratch();
    let mut settings = settings();
    settings.r#loop.samples = Some(1);
    settings.seed = 5;
    let error = run_under(dir.path(), &settings, &Arc::default()).await.unwrap_err();
    assert!(isr_text(&error).contains("there is but one pair; take more samples"), "{error:?}");
}

/// An error with its causes.
fn isr_text(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
