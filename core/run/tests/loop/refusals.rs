//! A run goes on only where that gives what an uninterrupted run would have given.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use isr_api::Error;
use isr_config::to_toml;
use isr_run::Components;
use isr_run::store::RunDir;

use crate::bench::{Fakes, Settings, run, run_under, run_with, scratch};
use crate::control::{Act, Call, Control};
use crate::fake_policy::FakePolicy;
use crate::fakes::{FakeReader, FakeSource, samples};

/// A run that was cut while it judged.
async fn cut_while_judging(dir: &Path) {
    let rule = |call: &Call<'_>| if call.name.starts_with("judge") { Act::Cancelled } else { Act::Work };
    run_under(dir, &Settings::default(), &Arc::new(Control::with(rule))).await.unwrap_err();
}

async fn message(dir: &Path) -> String {
    run(dir, &Settings::default()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_second_session_on_the_same_directory_is_refused() {
    let dir = scratch();
    let value = Settings::default().value();
    let open = RunDir::open(dir.path(), &value, &to_toml(&value).unwrap()).unwrap();
    let error = run(dir.path(), &Settings::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Locked { path } if path == dir.path()), "{error:?}");
    let text = format!(
        "{} is in use by another process; wait for it, or choose another --out",
        dir.path().display()
    );
    assert_eq!(error.to_string(), text);
    drop(open);
    run(dir.path(), &Settings::default()).await.unwrap();
}

#[tokio::test]
async fn another_config_is_refused_with_the_key_that_differs() {
    let dir = scratch();
    cut_while_judging(dir.path()).await;
    let before = fs::read(dir.path().join("config.toml")).unwrap();
    let mut settings = Settings::default();
    settings.train.learning_rate = 0.25;
    let error = run(dir.path(), &settings).await.unwrap_err();
    assert!(
        matches!(&error, Error::OtherRun { difference, .. }
        if difference == "`train.learning_rate` was 0.5, is 0.25"),
        "{error}"
    );
    assert_eq!(fs::read(dir.path().join("config.toml")).unwrap(), before);
}

#[tokio::test]
async fn changed_components_are_refused() {
    let dir = scratch();
    cut_while_judging(dir.path()).await;
    let control = Arc::<Control>::default();
    let refusal = async |change: &dyn Fn(&mut Components)| {
        let mut components = Fakes::new(&control).components;
        change(&mut components);
        match run_with(dir.path(), &Settings::default(), components).await {
            Err(Error::OtherRun { difference, .. }) => difference,
            other => panic!("{other:?}"),
        }
    };
    let video = Arc::new(FakeReader { frames: 3, draws: false, control: control.clone() });
    assert_eq!(
        refusal(&|components| components.video = video.clone()).await,
        "the video reader (its decoder, or which frames it samples) changed since it was started"
    );
    let policy = Arc::new(FakePolicy::new([0.0; 4], control.clone()));
    assert_eq!(
        refusal(&|components| components.policy = policy.clone()).await,
        "the starting model's weights changed since it was started"
    );
    let (training, evaluation) = (samples("s", 10), samples("e", 3));
    let data = Arc::new(FakeSource { training, evaluation, control: control.clone() });
    assert_eq!(
        refusal(&|components| components.data = data.clone()).await,
        "the samples of `data` changed since it was started"
    );
}

#[tokio::test]
async fn a_policy_that_an_earlier_session_trained_is_refused() {
    let dir = scratch();
    let rule = |call: &Call<'_>| if call.name == "train 3" { Act::Cancelled } else { Act::Work };
    let fakes = Fakes::new(&Arc::new(Control::with(rule)));
    run_with(dir.path(), &Settings::default(), fakes.components.clone()).await.unwrap_err();
    let error = run_with(dir.path(), &Settings::default(), fakes.components).await.unwrap_err();
    assert!(error.to_string().contains("the starting model's weights changed"), "{error}");
}

#[tokio::test]
async fn a_damaged_journal_line_is_named() {
    let dir = scratch();
    cut_while_judging(dir.path()).await;
    let path = dir.path().join("iteration-01/responses.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("{\"sample\":\"s1\"", "{\"sample\":s1", 1)).unwrap();
    let text = message(dir.path()).await;
    assert!(text.contains("iteration-01/responses.jsonl is damaged: line 2: "), "{text}");
}

#[tokio::test]
async fn a_damaged_summary_is_named() {
    let dir = scratch();
    run(dir.path(), &Settings::default()).await.unwrap();
    let path = dir.path().join("summary.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let refusal = message(dir.path()).await;
    assert!(refusal.contains("summary.json is damaged: EOF while parsing"), "{refusal}");
    fs::write(&path, text.replace("\"schema\": 1", "\"schema\": 2")).unwrap();
    let refusal = message(dir.path()).await;
    assert!(refusal.contains("its schema is 2, this version reads 1"), "{refusal}");
}

#[tokio::test]
async fn a_checkpoint_that_is_gone_is_named() {
    let dir = scratch();
    run(dir.path(), &Settings::default()).await.unwrap();
    fs::remove_dir_all(dir.path().join("iteration-03/checkpoint")).unwrap();
    let text = message(dir.path()).await;
    assert!(text.starts_with("load checkpoint, ") && text.contains("iteration-03/checkpoint: "), "{text}");
}

#[tokio::test]
async fn metrics_that_do_not_reach_the_training_snapshot_are_damage() {
    let dir = scratch();
    let settings = Settings::with_snapshots();
    let rule = |call: &Call<'_>| if call.name == "train 3" { Act::Cancelled } else { Act::Work };
    run_under(dir.path(), &settings, &Arc::new(Control::with(rule))).await.unwrap_err();
    fs::write(dir.path().join("iteration-01/metrics.jsonl"), "").unwrap();
    let text = run(dir.path(), &settings).await.unwrap_err().to_string();
    assert!(text.contains("metrics.jsonl is damaged: it has 0 of the 3 steps"), "{text}");
}

#[tokio::test]
async fn samples_without_an_id_of_their_own_are_refused() {
    let (dir, control) = (scratch(), Arc::<Control>::default());
    let mut components = Fakes::new(&control).components;
    let mut training = samples("s", 3);
    training[2].id = training[0].id.clone();
    components.data = Arc::new(FakeSource { training, evaluation: Vec::new(), control });
    let error = run_with(dir.path(), &Settings::default(), components).await.unwrap_err();
    assert_eq!(error.to_string(), "`data` has two samples with the id `s0`; give each its own");
}

#[tokio::test]
async fn no_training_sample_is_an_error() {
    let (dir, control) = (scratch(), Arc::<Control>::default());
    let mut components = Fakes::new(&control).components;
    components.data = Arc::new(FakeSource { training: Vec::new(), evaluation: Vec::new(), control });
    let error = run_with(dir.path(), &Settings::default(), components).await.unwrap_err();
    assert_eq!(error.to_string(), "`data` has no training sample");
}
