//! Runs that take over each other's stages end as if they had not.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_api::{
    ComponentError, Event, Fingerprint, FrozenPolicy, Judge, JudgeCase, Observer, Verdict, Vote,
};
use isr_run::stage_cache::StageCache;
use serde_json::json;

use crate::bench::{Fakes, Settings, Tree, assert_same, run_shared, run_with, scratch, tree};
use crate::control::{Act, Call, Control};

/// A judge that prefers by seed.
struct Coin;

#[async_trait]
impl Judge for Coin {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let p_first = if case.seed.is_multiple_of(2) { 0.9 } else { 0.1 };
        Ok(Verdict::from_votes(vec![Vote { first_shown_first: true, p_first }]))
    }
}

fn fakes(control: &Arc<Control>, coin: bool) -> Fakes {
    let mut fakes = Fakes::new(control);
    if coin {
        fakes.components.judge = Arc::new(Coin);
    }
    fakes
}

fn cache(dir: &Path, settings: &Settings, coin: bool) -> StageCache {
    let mut value = settings.value();
    value["judge"] = json!({ "type": if coin { "coin" } else { "fake" } });
    StageCache::new(dir, value, Fingerprint::of("this program"))
}

/// The tree and the calls of a run, with a cache or without.
async fn made(
    settings: &Settings,
    shared: Option<&Path>,
    coin: bool,
    control: Control,
) -> (Tree, Vec<String>) {
    let (dir, control) = (scratch(), Arc::new(control));
    let components = fakes(&control, coin).components;
    let outcome = match shared {
        Some(shared) => run_shared(dir.path(), settings, components, cache(shared, settings, coin)).await,
        None => run_with(dir.path(), settings, components).await,
    };
    outcome.unwrap();
    (tree(dir.path()), control.calls())
}

/// One clip, one description and one judgement are bad.
fn trouble(call: &Call<'_>) -> Act {
    match call.name {
        "read clips/s1.mp4" | "describe clips/s2.mp4" | "read clips/e1.mp4" => Act::BadInput("it is torn"),
        "judge clips/s0.mp4 | What colour is object 1?" => Act::BadInput("no verdict"),
        _ => Act::Work,
    }
}

fn count(calls: &[String], what: &str) -> usize {
    calls.iter().filter(|call| call.starts_with(what)).count()
}

#[tokio::test]
async fn a_run_that_takes_over_every_stage_ends_in_the_same_bytes_and_computes_nothing() {
    for control in [Control::default as fn() -> Control, || Control::with(trouble)] {
        let (settings, shared) = (Settings::with_snapshots(), scratch());
        let (alone, calls) = made(&settings, None, false, control()).await;
        let (first, filled) = made(&settings, Some(shared.path()), false, control()).await;
        assert_eq!(calls.len(), filled.len(), "the first run computes everything");
        let (second, taken) = made(&settings, Some(shared.path()), false, control()).await;
        assert_same(&alone, &first, "the run that leaves its stages");
        assert_same(&alone, &second, "the run that takes them over");
        for work in ["generate", "describe", "judge", "train", "save"] {
            assert!(count(&calls, work) > 0 && count(&taken, work) == 0, "{work}: {taken:?}");
        }
    }
}

#[tokio::test]
async fn another_judge_takes_over_what_comes_before_it_and_nothing_after() {
    let (settings, shared) = (Settings::default(), scratch());
    let (_, own) = made(&settings, Some(shared.path()), false, Control::default()).await;
    let (alone, all) = made(&settings, None, true, Control::default()).await;
    let (other, left) = made(&settings, Some(shared.path()), true, Control::default()).await;
    assert_same(&alone, &other, "the run with another judge");
    // Of three iterations, the first one's contexts, answers (8 of 24) and the base evaluation (6 of 24 answers).
    assert_eq!((count(&own, "describe"), count(&all, "describe"), count(&left, "describe")), (12, 12, 8));
    let saved = count(&all, "generate") - count(&left, "generate");
    assert_eq!(saved, 8 + 4 + 6, "answers, contexts, base evaluation");
    assert_eq!(count(&all, "train"), count(&left, "train"));
}

#[tokio::test]
async fn other_seeds_and_other_programs_share_nothing() {
    let (mut settings, shared) = (Settings::with_snapshots(), scratch());
    made(&settings, Some(shared.path()), false, Control::default()).await;
    settings.seed += 1;
    let (alone, all) = made(&settings, None, false, Control::default()).await;
    let (other, left) = made(&settings, Some(shared.path()), false, Control::default()).await;
    assert_same(&alone, &other, "the run with another seed");
    assert_eq!(all.len(), left.len());
    let (dir, control) = (scratch(), Arc::<Control>::default());
    let program = StageCache::new(shared.path(), settings.value(), Fingerprint::of("another program"));
    run_shared(dir.path(), &settings, fakes(&control, false).components, program).await.unwrap();
    assert_eq!(control.calls().len(), all.len());
}

#[tokio::test]
async fn of_two_runs_at_once_one_computes_and_the_other_waits() {
    let (settings, shared) = (Settings::with_snapshots(), scratch());
    let (alone, calls) = made(&settings, None, false, Control::default()).await;
    let run = |seed| made(&settings, Some(shared.path()), false, Control::default().delayed(seed));
    let ((one, first), (other, second)) = tokio::join!(run(1), run(2));
    assert_same(&alone, &one, "one run");
    assert_same(&alone, &other, "the other run");
    for work in ["generate", "describe", "judge", "train"] {
        assert_eq!(count(&first, work) + count(&second, work), count(&calls, work), "{work}");
    }
}

#[tokio::test]
async fn a_shared_run_cut_at_any_call_ends_as_if_it_had_not_been() {
    let mut settings = Settings::with_snapshots();
    settings.r#loop.samples = Some(5);
    let (alone, calls) = made(&settings, None, true, Control::default()).await;
    for at in 0..calls.len() {
        let (dir, shared) = (scratch(), scratch());
        // What comes before the judge is taken over; the rest is cut somewhere.
        made(&settings, Some(shared.path()), false, Control::default()).await;
        let cut = move |call: &Call<'_>| if call.number == at { Act::Fail("cut") } else { Act::Work };
        for control in [Control::with(cut), Control::default()] {
            let components = fakes(&Arc::new(control), true).components;
            let _ =
                run_shared(dir.path(), &settings, components, cache(shared.path(), &settings, true)).await;
        }
        assert_same(&alone, &tree(dir.path()), &format!("cut at call {at}"));
    }
}

#[tokio::test]
async fn what_is_damaged_is_computed_anew() {
    let (settings, shared) = (Settings::with_snapshots(), scratch());
    let (alone, calls) = made(&settings, Some(shared.path()), false, Control::default()).await;
    for (place, name) in tree(shared.path()).into_keys().enumerate() {
        let file = shared.path().join(&name);
        if name.ends_with("results.jsonl") || name.ends_with("metrics.jsonl") {
            fs::write(&file, "no record\n").unwrap();
        } else if name.ends_with("entry.json") && place % 2 == 0 {
            fs::write(&file, "{").unwrap();
        }
    }
    let (again, work) = made(&settings, Some(shared.path()), false, Control::default()).await;
    assert_same(&alone, &again, "the run with a damaged cache");
    assert_eq!(calls.len(), work.len());
}

/// Notes the stages that were taken over, and the steps that were told of.
#[derive(Default)]
struct Told(Mutex<(Vec<String>, usize)>);

impl Observer for Told {
    fn observe(&self, event: &Event<'_>) {
        let mut told = self.0.lock().unwrap();
        match event {
            Event::StageShared { iteration, stage, seconds } => {
                assert!(*seconds >= 0.0);
                told.0.push(format!("{iteration} {}", stage.name()));
            }
            Event::TrainStep { .. } => told.1 += 1,
            _ => {}
        }
    }
}

#[tokio::test]
async fn observers_are_told_of_what_was_taken_over_as_of_what_was_done() {
    let (mut settings, shared) = (Settings::with_snapshots(), scratch());
    let told: Vec<Arc<Told>> = (0..2).map(|_| Arc::default()).collect();
    for observer in &told {
        settings.observers = vec![observer.clone()];
        made(&settings, Some(shared.path()), false, Control::default()).await;
    }
    let [(none, steps), (all, same_steps)] =
        [&told[0], &told[1]].map(|told| told.0.lock().unwrap().clone());
    assert!(none.is_empty() && steps > 0);
    assert_eq!(steps, same_steps);
    let stages = ["respond", "retrospect", "judge", "train", "evaluate"];
    let wanted: Vec<String> =
        (1..=2).flat_map(|t| stages.iter().map(move |stage| format!("{t} {stage}"))).collect();
    assert_eq!(all, [vec!["0 evaluate".to_owned()], wanted].concat());
}
