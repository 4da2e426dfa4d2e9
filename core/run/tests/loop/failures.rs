//! What is not one sample's fault stops the run, and the error says where.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use isr_api::records::VerdictRecord;
use isr_api::{
    Assessment, Candidate, ComponentError, Decision, Error, Evaluator, Fingerprint, Frames, LabelledSample,
    ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements, Response, Selection, VideoReader,
};
use isr_run::store::read_journal;

use crate::bench::{Fakes, Settings, assert_same, run, run_under, run_with, scratch, tree};
use crate::control::{Act, Call, Control};
use crate::fakes::{FakeObjective, FakeSelection};

/// The message of a run whose components were changed.
async fn message(change: impl FnOnce(&mut Fakes)) -> String {
    let dir = scratch();
    message_in(dir.path(), change).await
}

async fn message_in(dir: &Path, change: impl FnOnce(&mut Fakes)) -> String {
    let mut fakes = Fakes::new(&Arc::default());
    change(&mut fakes);
    run_with(dir, &Settings::default(), fakes.components).await.unwrap_err().to_string()
}

async fn message_under(rule: fn(&Call<'_>) -> Act) -> String {
    let dir = scratch();
    let control = Arc::new(Control::with(rule));
    run_under(dir.path(), &Settings::default(), &control).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_component_that_fails_is_named_with_stage_and_sample() {
    let rule = |call: &Call<'_>| match call.name {
        "judge clips/s1.mp4 | What colour is object 3?" => Act::Fail("out of memory"),
        _ => Act::Work,
    };
    assert_eq!(message_under(rule).await, "iteration 1, judge, s3: out of memory");
    let rule =
        |call: &Call<'_>| if call.name == "train 2" { Act::Fail("out of memory") } else { Act::Work };
    assert_eq!(message_under(rule).await, "iteration 1, train, step 2: out of memory");
    let rule = |call: &Call<'_>| if call.name == "prepare" { Act::Fail("no disk") } else { Act::Work };
    assert_eq!(message_under(rule).await, "prepare, data: no disk");
    let rule = |call: &Call<'_>| if call.name == "save" { Act::Fail("disk full") } else { Act::Work };
    let text = message_under(rule).await;
    assert!(text.starts_with("save, ") && text.ends_with("iteration-01/checkpoint: disk full"), "{text}");
}

#[tokio::test]
async fn a_panic_in_a_judge_names_it_and_leaves_whole_journals() {
    let rule = |call: &Call<'_>| match call.name {
        "judge clips/s2.mp4 | What colour is object 4?" => Act::Panic("index out of bounds"),
        _ => Act::Work,
    };
    let (dir, settings) = (scratch(), Settings::default());
    let error = run_under(dir.path(), &settings, &Arc::new(Control::with(rule))).await.unwrap_err();
    assert_eq!(error.to_string(), "iteration 1, judge, s4: panicked: index out of bounds");
    let verdicts: Vec<VerdictRecord> =
        read_journal(&dir.path().join("iteration-01/verdicts.jsonl")).unwrap();
    let ids: Vec<_> = verdicts.iter().map(|verdict| verdict.sample.as_str()).collect();
    assert_eq!(ids, ["s0", "s1", "s2", "s3"]);

    run(dir.path(), &settings).await.unwrap();
    let whole = scratch();
    run(whole.path(), &settings).await.unwrap();
    assert_same(&tree(whole.path()), &tree(dir.path()), "after a panic");
}

#[tokio::test]
async fn a_panic_anywhere_is_an_error() {
    let rule = |call: &Call<'_>| if call.name == "prepare" { Act::Panic("oh") } else { Act::Work };
    assert_eq!(message_under(rule).await, "prepare, data: panicked: oh");
    let rule = |call: &Call<'_>| if call.name == "train 1" { Act::Panic("oh") } else { Act::Work };
    assert_eq!(message_under(rule).await, "iteration 1, train, step 1: panicked: oh");
    let rule =
        |call: &Call<'_>| if call.name == "read clips/s1.mp4" { Act::Panic("oh") } else { Act::Work };
    assert_eq!(message_under(rule).await, "iteration 1, respond, s2: panicked: oh");
    let text = message(|fakes| fakes.components.selection = Arc::new(Choosy::Panics)).await;
    assert_eq!(text, "iteration 1, select, 8 candidates: panicked: no choice");
    let text = message(|fakes| fakes.components.evaluator = Some(Arc::new(Critic::Panics))).await;
    assert_eq!(text, "iteration 1, measure, evaluator: panicked: no context");
}

enum Choosy {
    Panics,
    Forgets,
    DropsAll,
}

impl Selection for Choosy {
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision> {
        let mut decisions = FakeSelection.select(candidates);
        match self {
            Self::Panics => panic!("no choice"),
            Self::Forgets => drop(decisions.pop()),
            Self::DropsAll => {
                decisions.fill(Decision::Drop("unsure".to_owned()));
                decisions[0] = Decision::Drop("too long".to_owned());
            }
        }
        decisions
    }
}

#[tokio::test]
async fn a_selection_that_forgets_a_candidate_is_an_error() {
    let text = message(|fakes| fakes.components.selection = Arc::new(Choosy::Forgets)).await;
    assert_eq!(text, "iteration 1, select, 8 candidates: the selection returned 7 decisions, not one each");
}

#[tokio::test]
async fn no_pair_to_train_on_is_an_error_with_the_reasons() {
    let text = message(|fakes| fakes.components.selection = Arc::new(Choosy::DropsAll)).await;
    assert_eq!(
        text,
        "iteration 1: selection kept no pair of 8 candidates (too long: 1, unsure: 7); loosen `selection`, or \
         add samples"
    );
}

#[tokio::test]
async fn identical_responses_are_never_judged() {
    let same = |responses: &mut Vec<Response>| {
        let first = responses[0].clone();
        responses.fill(first);
    };
    let text = message(|fakes| *fakes.policy.quirk.lock().unwrap() = Some(same)).await;
    assert!(text.contains("no pair of 8 candidates (identical responses: 8)"), "{text}");
}

#[tokio::test]
async fn responses_that_break_the_contract_are_refused() {
    let message = async |quirk: fn(&mut Vec<Response>)| {
        message(|fakes| *fakes.policy.quirk.lock().unwrap() = Some(quirk)).await
    };
    let text = message(|responses| drop(responses.pop())).await;
    assert!(text.ends_with("the policy returned no answer"), "{text}");
    let text = message(|responses| responses[0].logprobs.push(0.0)).await;
    assert!(text.starts_with("iteration 0, evaluate, e0: the policy returned"), "{text}");
    let text = message(|responses| responses[0].logprobs[0] = f32::NAN).await;
    assert!(text.ends_with("the policy returned a log-prob of NaN"), "{text}");
    let text = message(|responses| responses.truncate(1)).await;
    assert_eq!(text, "iteration 1, respond, s0: asked the policy for 2 answers, got 1");
}

/// Loses the numbers at some figure.
#[derive(Clone, Copy)]
enum Diverges {
    Loss,
    Metric,
}

impl PreferenceObjective for Diverges {
    fn requirements(&self) -> Requirements {
        FakeObjective.requirements()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let mut value = FakeObjective.evaluate(batch)?;
        match self {
            Self::Loss => value.loss = f64::NAN,
            Self::Metric => drop(value.metrics.insert("reward_margin".to_owned(), f64::INFINITY)),
        }
        Ok(value)
    }
}

#[tokio::test]
async fn a_training_that_diverges_stops_with_a_remedy() {
    let dir = scratch();
    for (objective, what) in [(Diverges::Loss, "loss is NaN"), (Diverges::Metric, "reward_margin is inf")] {
        let text = message_in(dir.path(), |fakes| fakes.components.objective = Arc::new(objective)).await;
        assert_eq!(text, format!("iteration 1, train, step 0: the {what}; lower the learning rate"));
        assert_eq!(std::fs::read(dir.path().join("iteration-01/metrics.jsonl")).unwrap(), b"");
    }
}

enum Critic {
    Panics,
    Nan,
    /// Rejects every answer.
    Refuses,
    /// Counts the answers that it is asked about, at a cost.
    Costly(Arc<AtomicUsize>),
}

#[async_trait]
impl Evaluator for Critic {
    async fn answer(&self, _: &LabelledSample, _: &str) -> Result<Option<Assessment>, ComponentError> {
        match self {
            Self::Refuses => return Err(ComponentError::bad_input("no such question")),
            Self::Costly(asked) => drop(asked.fetch_add(1, Ordering::Relaxed)),
            Self::Panics | Self::Nan => {}
        }
        let accuracy = if matches!(self, Self::Nan) { f64::NAN } else { 1.0 };
        Ok(Some(Assessment { quality: 0.0, metrics: BTreeMap::from([("accuracy".to_owned(), accuracy)]) }))
    }

    async fn context(&self, _: &LabelledSample, _: &str) -> Result<Option<Assessment>, ComponentError> {
        assert!(!matches!(self, Self::Panics), "no context");
        Ok(None)
    }

    fn is_costly(&self) -> bool {
        matches!(self, Self::Costly(_))
    }
}

#[tokio::test]
async fn what_an_evaluator_refuses_is_quarantined() {
    let dir = scratch();
    let mut fakes = Fakes::new(&Arc::default());
    fakes.components.evaluator = Some(Arc::new(Critic::Refuses));
    let error = run_with(dir.path(), &Settings::default(), fakes.components).await.unwrap_err().to_string();
    assert!(
        error.contains("quarantined in iteration 0, evaluate") && error.contains("no such question"),
        "{error}"
    );
}

#[tokio::test]
async fn an_evaluator_that_costs_is_asked_about_held_out_answers_only() {
    let (dir, asked) = (scratch(), Arc::<AtomicUsize>::default());
    let mut fakes = Fakes::new(&Arc::default());
    fakes.components.evaluator = Some(Arc::new(Critic::Costly(Arc::clone(&asked))));
    let summary = run_with(dir.path(), &Settings::default(), fakes.components).await.unwrap();
    let evaluations =
        summary.iterations.iter().filter_map(|row| row.evaluation.as_ref()).chain(&summary.base);
    // A greedy and a sampled answer each.
    let answers: usize = evaluations.map(|it| 2 * it.samples).sum();
    assert_eq!(asked.load(Ordering::Relaxed), answers);
    assert!(answers > 0 && summary.iterations[0].judge.agreement_of == 0);
}

#[tokio::test]
async fn a_figure_that_is_no_number_is_an_error() {
    let text = message(|fakes| fakes.components.evaluator = Some(Arc::new(Critic::Nan))).await;
    assert_eq!(text, "iteration 0, evaluate, e0: the evaluator says that `accuracy` is NaN");
}

/// Returns frames of another size than it says.
struct Liar(Frames);

#[async_trait]
impl VideoReader for Liar {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("liar")
    }

    async fn read(&self, _: &Path) -> Result<Frames, ComponentError> {
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn frames_that_are_not_what_they_say_are_refused() {
    let frames = Frames { width: 2, height: 2, rgb: vec![0; 5], timestamps: vec![0.0], duration: 0.0 };
    let text = message(|fakes| fakes.components.video = Arc::new(Liar(frames))).await;
    assert_eq!(text, "iteration 0, evaluate, e0: the reader returned 5 bytes for 1 frames of 2x2");
    let none = Frames { width: 2, height: 2, rgb: Vec::new(), timestamps: Vec::new(), duration: 0.0 };
    let dir = scratch();
    let mut fakes = Fakes::new(&Arc::default());
    fakes.components.video = Arc::new(Liar(none));
    let error = run_with(dir.path(), &Settings::default(), fakes.components).await.unwrap_err();
    assert!(matches!(error, Error::TooManyQuarantined { .. }), "{error}");
}
