//! A run stops soon after it is told to, whatever its components are doing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isr_api::Error;
use tokio_util::sync::CancellationToken;

use crate::bench::{Fakes, Settings, assert_same, open_with, run, run_under, scratch, tree};
use crate::control::{Act, Call, Control};

#[tokio::test]
async fn a_run_stops_at_once_and_can_be_continued() {
    let dir = scratch();
    let settings = Settings::default();
    run(dir.path(), &settings).await.unwrap();
    let whole = tree(dir.path());
    for component in ["prepare", "read", "encode", "generate", "describe", "judge", "train", "save"] {
        let dir = scratch();
        let sleep = move |call: &crate::control::Call<'_>| match call.name.starts_with(component) {
            true => Act::Sleep(Duration::from_secs(3600)),
            false => Act::Work,
        };
        let (control, cancel) = (Arc::new(Control::with(sleep)), CancellationToken::new());
        let session = Settings { cancel: cancel.clone(), ..settings.clone() };
        let asleep = Arc::clone(&control);
        tokio::spawn(async move {
            while !asleep.calls().iter().any(|call| call.starts_with(component)) {
                tokio::task::yield_now().await;
            }
            cancel.cancel();
        });
        let started = Instant::now();
        let outcome = run_under(dir.path(), &session, &control).await;
        assert!(matches!(outcome, Err(Error::Cancelled)), "{component}: {outcome:?}");
        assert!(started.elapsed() < Duration::from_secs(60), "{component}");
        all_dropped(&control).await;

        run(dir.path(), &settings).await.unwrap();
        assert_same(&whole, &tree(dir.path()), component);
    }
}

/// Asks for a stop in the middle of the first call of this name.
fn stops_in(name: &'static str, stop: &CancellationToken) -> Arc<Control> {
    let stop = stop.clone();
    Arc::new(Control::with(move |call: &Call<'_>| {
        if call.name.starts_with(name) {
            stop.cancel();
        }
        Act::Sleep(Duration::from_millis(1))
    }))
}

#[tokio::test]
async fn a_request_to_stop_lets_a_training_step_end_and_keeps_it() {
    let mut settings = Settings::default();
    settings.train.snapshot_every = None;
    let whole = scratch();
    run(whole.path(), &settings).await.unwrap();
    let whole = tree(whole.path());
    // The request, the training steps of the first session, and the first of the second.
    for (moment, last, next) in [
        ("generate", None, "train 0"),
        ("train 0", Some("train 0"), "train 1"),
        ("train 3", Some("train 3"), "train 4"),
        ("train 7", Some("train 7"), "train 0"),
        ("judge", None, "train 0"),
    ] {
        let (dir, stop) = (scratch(), CancellationToken::new());
        let control = stops_in(moment, &stop);
        let session = Settings { cancel: CancellationToken::new(), ..settings.clone() };
        let components = Fakes::new(&control).components;
        let run_once = open_with(dir.path(), &session, components).unwrap().stopped_by(stop);
        let outcome = run_once.run().await;
        assert!(matches!(outcome, Err(Error::Cancelled)), "{moment}: {outcome:?}");
        let steps = |calls: Vec<String>| {
            calls.into_iter().filter(|call| call.starts_with("train ")).collect::<Vec<_>>()
        };
        assert_eq!(steps(control.calls()).last().map(String::as_str), last, "{moment}");
        drop(run_once);

        let control = Arc::<Control>::default();
        run_under(dir.path(), &settings, &control).await.unwrap();
        assert_eq!(steps(control.calls())[0], next, "{moment}");
        assert_same(&whole, &tree(dir.path()), moment);
    }
}

/// The items that were in flight do not go on behind the back of whoever cancelled.
async fn all_dropped(control: &Control) {
    for _ in 0..1000 {
        if control.under_way() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{} calls are still under way", control.under_way());
}

#[tokio::test]
async fn items_in_flight_are_dropped_when_another_fails() {
    let dir = scratch();
    let rule = |call: &crate::control::Call<'_>| match call.name {
        "describe clips/s0.mp4" => Act::Fail("it broke"),
        name if name.starts_with("describe") => Act::Hang,
        _ => Act::Work,
    };
    let control = Arc::new(Control::with(rule));
    let error = run_under(dir.path(), &Settings::default(), &control).await.unwrap_err();
    assert_eq!(error.to_string(), "iteration 1, retrospect, clips/s0.mp4: it broke");
    all_dropped(&control).await;
}

#[tokio::test]
async fn a_run_that_is_cancelled_before_it_starts_does_nothing() {
    let dir = scratch();
    let settings = Settings::default();
    settings.cancel.cancel();
    let control = Arc::<Control>::default();
    assert!(matches!(run_under(dir.path(), &settings, &control).await, Err(Error::Cancelled)));
    assert!(control.calls().is_empty());
}

#[tokio::test]
async fn a_component_that_says_cancelled_stops_the_run_as_the_token_does() {
    for component in ["prepare", "generate", "judge", "train 1", "save"] {
        let dir = scratch();
        let rule = move |call: &crate::control::Call<'_>| match call.name.starts_with(component) {
            true => Act::Cancelled,
            false => Act::Work,
        };
        let outcome = run_under(dir.path(), &Settings::default(), &Arc::new(Control::with(rule))).await;
        assert!(matches!(outcome, Err(Error::Cancelled)), "{component}: {outcome:?}");
    }
}
