//! A run that was cut off goes on, and ends as if it had not been.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use isr_api::{Error, Event, Observer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::bench::{Settings, Tree, assert_same, run, run_under, scratch, tree, write_tree};
use crate::control::{Act, Call, Control};
use crate::crashes::{Behaviour, Crashes, crashes};
use crate::fakes::AllViews;

fn work(_: &Call<'_>) -> Act {
    Act::Work
}

/// As little as has every kind of state: these tests run it hundreds of times.
fn short(mut settings: Settings) -> Settings {
    settings.r#loop.iterations = 2;
    settings.r#loop.samples = Some(5);
    settings.evaluation.samples = Some(2);
    settings
}

/// Something is wrong with one clip, one description and one judgement.
fn trouble(call: &Call<'_>) -> Act {
    match call.name {
        "read clips/s1.mp4" | "describe clips/s2.mp4" | "read clips/e1.mp4" => Act::BadInput("it is torn"),
        "judge clips/s0.mp4 | What colour is object 1?" => Act::BadInput("no verdict"),
        _ => Act::Work,
    }
}

/// Goes on from every state that a kill could leave.
async fn survives_every_crash(mut settings: Settings, behaviour: Behaviour) {
    let Crashes { last, states } = crashes(&settings, behaviour).await;
    assert!(states.len() > 100, "only {} states", states.len());
    settings.r#loop.concurrency = 1;
    for (what, state) in states {
        let dir = scratch();
        write_tree(dir.path(), &state);
        let outcome = run_under(dir.path(), &settings, &Arc::new(Control::with(behaviour))).await;
        outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_same(&last, &tree(dir.path()), &what);
    }
}

#[tokio::test]
async fn every_state_that_a_kill_can_leave_is_continued_to_the_same_bytes() {
    survives_every_crash(short(Settings::default()), work).await;
}

#[tokio::test]
async fn every_state_with_training_snapshots_is_continued_to_the_same_bytes() {
    survives_every_crash(short(Settings::with_snapshots()), work).await;
}

#[tokio::test]
async fn every_state_with_references_is_continued_to_the_same_bytes() {
    let settings = Settings { objective: Arc::new(AllViews), ..Settings::with_snapshots() };
    survives_every_crash(short(settings), work).await;
}

#[tokio::test]
async fn every_state_with_a_quarantine_is_continued_to_the_same_bytes() {
    let mut settings = Settings::with_snapshots();
    settings.train.snapshot_every = Some(2);
    survives_every_crash(settings, trouble).await;
}

/// The tree of a run that nothing disturbs, and its number of component calls.
async fn undisturbed(settings: &Settings) -> (Tree, usize) {
    let dir = scratch();
    let control = Arc::<Control>::default();
    run_under(dir.path(), settings, &control).await.unwrap();
    (tree(dir.path()), control.calls().len())
}

/// Cuts one session at a component call, in one of several ways.
async fn cut(dir: &Path, settings: &Settings, at: usize) {
    let (hung, cancel) = (Arc::new(Notify::new()), CancellationToken::new());
    let (tell, stop) = (Arc::clone(&hung), cancel.clone());
    let rule = move |call: &Call<'_>| match (call.number == at, at % 5) {
        (true, 0) => Act::Cancelled,
        (true, 1) => Act::Fail("the component broke"),
        (true, 2) => Act::Panic("the component panicked"),
        (true, 3) => {
            stop.cancel();
            Act::Work
        }
        (true, _) => {
            tell.notify_one();
            Act::Hang
        }
        _ => Act::Work,
    };
    let settings = Settings { cancel, ..settings.clone() };
    let control = Arc::new(Control::with(rule).delayed(at as u64));
    tokio::select! {
        outcome = run_under(dir, &settings, &control) => {
            // A session may be through before it hears that it should stop.
            assert!(outcome.is_err() || at % 5 == 3, "not cut at {at}");
        }
        // As a process that is killed: the session is dropped where it stands.
        () = hung.notified() => {}
    }
}

async fn survives_cuts_at_every_call(settings: Settings) {
    let (whole, calls) = undisturbed(&settings).await;
    for at in 0..calls {
        let dir = scratch();
        cut(dir.path(), &settings, at).await;
        run(dir.path(), &settings).await.unwrap_or_else(|error| panic!("cut at call {at}: {error}"));
        assert_same(&whole, &tree(dir.path()), &format!("cut at call {at}"));
    }
}

#[tokio::test]
async fn a_run_cut_at_any_call_ends_as_if_it_had_not_been() {
    survives_cuts_at_every_call(short(Settings::default())).await;
}

#[tokio::test]
async fn a_run_with_training_snapshots_cut_at_any_call_ends_as_if_it_had_not_been() {
    survives_cuts_at_every_call(short(Settings::with_snapshots())).await;
}

/// Panics at one event, and counts all it is told.
struct PanicsAt {
    at: usize,
    told: AtomicUsize,
}

impl Observer for PanicsAt {
    fn observe(&self, event: &Event<'_>) {
        let number = self.told.fetch_add(1, Ordering::Relaxed);
        assert!(number != self.at, "at {event:?}");
    }
}

#[tokio::test]
async fn a_run_goes_on_without_an_observer_that_panics_at_any_event() {
    let settings = Settings::with_snapshots();
    let (whole, _) = undisturbed(&settings).await;
    for at in 0.. {
        let dir = scratch();
        let observer = Arc::new(PanicsAt { at, told: AtomicUsize::new(0) });
        let watched = Settings { observers: vec![observer.clone()], ..settings.clone() };
        run(dir.path(), &watched).await.unwrap();
        assert_same(&whole, &tree(dir.path()), &format!("panicked at event {at}"));
        let told = observer.told.load(Ordering::Relaxed);
        if told <= at {
            assert!(at > 50, "only {at} events");
            return;
        }
        assert_eq!(told, at + 1, "it is left out");
    }
}

#[tokio::test]
async fn many_short_sessions_come_to_the_same_end() {
    let settings = Settings::with_snapshots();
    let (whole, _) = undisturbed(&settings).await;
    let dir = scratch();
    let mut sessions = 0;
    loop {
        let rule = |call: &Call<'_>| if call.number < 12 { Act::Work } else { Act::Cancelled };
        match run_under(dir.path(), &settings, &Arc::new(Control::with(rule))).await {
            Ok(_) => break,
            Err(Error::Cancelled) => sessions += 1,
            Err(error) => panic!("{error}"),
        }
        assert!(sessions < 100, "no progress");
    }
    assert!(sessions > 10, "only {sessions} sessions");
    assert_same(&whole, &tree(dir.path()), "many sessions");
}

#[tokio::test]
async fn what_is_done_is_never_done_again() {
    let settings = Settings::default();
    let (_, calls) = undisturbed(&settings).await;
    let dir = scratch();
    let before_training = |call: &Call<'_>| if call.name == "train 0" { Act::Cancelled } else { Act::Work };
    let first = Arc::new(Control::with(before_training));
    run_under(dir.path(), &settings, &first).await.unwrap_err();
    let second = Arc::<Control>::default();
    run_under(dir.path(), &settings, &second).await.unwrap();
    let mut again: Vec<String> = second.calls();
    again.retain(|call| first.calls().contains(call));
    // Videos are decoded anew; evaluation has the same seeds after each iteration.
    let evaluations = again.iter().filter(|call| call.starts_with("generate")).count();
    assert_eq!(evaluations, 3 * 3 * 2);
    assert!(first.calls().len() + second.calls().len() <= calls + 1 + 1 + 2 * 6, "more than was left");
}

#[tokio::test]
async fn a_run_can_be_extended() {
    let mut settings = Settings::default();
    let (whole, _) = undisturbed(&settings).await;
    let dir = scratch();
    settings.r#loop.iterations = 1;
    assert_eq!(run(dir.path(), &settings).await.unwrap().iterations.len(), 1);
    settings.r#loop.iterations = 3;
    assert_eq!(run(dir.path(), &settings).await.unwrap().iterations.len(), 3);
    assert_same(&whole, &tree(dir.path()), "extended");
}

#[tokio::test]
async fn contexts_of_all_earlier_iterations_survive_a_cut() {
    // Each iteration leaves some videos out, so their newest contexts lie further back.
    let mut settings = Settings::default();
    settings.r#loop.samples = Some(3);
    settings.r#loop.iterations = 5;
    let (whole, _) = undisturbed(&settings).await;
    let dir = scratch();
    for iterations in 1..=5 {
        settings.r#loop.iterations = iterations;
        run(dir.path(), &settings).await.unwrap();
    }
    assert_same(&whole, &tree(dir.path()), "a session an iteration");
}

#[tokio::test]
async fn a_finished_run_run_again_only_returns_its_summary() {
    let settings = Settings::default();
    let dir = scratch();
    let first = run(dir.path(), &settings).await.unwrap();
    let before = tree(dir.path());
    let control = Arc::<Control>::default();
    assert_eq!(run_under(dir.path(), &settings, &control).await.unwrap(), first);
    assert_same(&before, &tree(dir.path()), "run again");
    assert_eq!(control.calls(), ["prepare", "load"]);
}

#[tokio::test]
async fn settings_that_change_no_result_may_change_between_sessions() {
    let mut settings = Settings::default();
    let (mut whole, calls) = undisturbed(&settings).await;
    let dir = scratch();
    cut(dir.path(), &settings, calls / 5 * 2).await;
    settings.r#loop.concurrency = 1;
    settings.r#loop.feature_cache_mb = 0;
    settings.r#loop.quarantine_limit = 1.0;
    settings.train.snapshot_every = Some(1);
    run(dir.path(), &settings).await.unwrap();
    let mut resumed = tree(dir.path());
    whole.remove("config.toml");
    resumed.remove("config.toml");
    assert_same(&whole, &resumed, "changed settings");
}
