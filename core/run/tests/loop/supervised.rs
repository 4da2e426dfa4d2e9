//! Supervised training on fake components: cut, panicking, diverging.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    ComponentError, Demonstration, Demonstrations, Error, ObjectiveBatch, ObjectiveValue,
    PreferenceObjective, Requirements, Streams, UnusableRow, View,
};
use isr_config::SupervisedConfig;
use isr_run::store::RunDir;
use isr_run::{SupervisedParts, SupervisedTraining};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::bench::{BASE, assert_same, scratch, tree};
use crate::control::{Act, Call, Control};
use crate::fake_policy::FakePolicy;
use crate::fakes::FakeReader;

/// Five of them, every other one about a video.
struct FakeDemonstrations {
    control: Arc<Control>,
    /// Number of rows that cannot be used.
    unusable: usize,
}

#[async_trait]
impl Demonstrations for FakeDemonstrations {
    async fn prepare(&self) -> Result<(), ComponentError> {
        self.control.enter("prepare").await
    }

    async fn count(&self) -> Result<u64, ComponentError> {
        Ok(5)
    }

    async fn get(&self, index: u64) -> Result<Demonstration, ComponentError> {
        self.control.enter(&format!("demonstration {index}")).await?;
        let video = index.is_multiple_of(2).then(|| format!("clips/{index}.mp4").into());
        let (prompt, answer) = (format!("what is {index}?"), "blue red".to_owned());
        Ok(Demonstration { id: index.to_string(), video, turns: Vec::new(), prompt, answer })
    }

    async fn unusable(&self) -> Result<Vec<UnusableRow>, ComponentError> {
        let row = |line: usize| UnusableRow {
            origin: format!("d.jsonl:{line}"),
            reason: "it is empty".to_owned(),
        };
        Ok((1..=self.unusable).map(row).collect())
    }

    async fn corpus(&self) -> Result<Vec<String>, ComponentError> {
        Ok(Vec::new())
    }
}

/// The mean negative log-likelihood of the answers.
struct Likelihood;

impl PreferenceObjective for Likelihood {
    fn requirements(&self) -> Requirements {
        Requirements::new([View::Chosen])
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let chosen = &batch.view(View::Chosen)?.policy;
        let count = chosen.len() as f64;
        let loss = -chosen.iter().sum::<f64>() / count;
        Ok(ObjectiveValue {
            loss,
            gradients: vec![vec![-1.0 / count; chosen.len()]],
            metrics: BTreeMap::new(),
        })
    }
}

/// Loses the numbers.
struct NotANumber;

impl PreferenceObjective for NotANumber {
    fn requirements(&self) -> Requirements {
        Likelihood.requirements()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        Ok(ObjectiveValue { loss: f64::NAN, ..Likelihood.evaluate(batch)? })
    }
}

/// One session in a directory.
async fn train(
    dir: &Path,
    control: &Arc<Control>,
    objective: Arc<dyn PreferenceObjective>,
) -> Result<(), Error> {
    train_with(dir, control, objective, SupervisedConfig::default(), 0).await
}

async fn train_with(
    dir: &Path,
    control: &Arc<Control>,
    objective: Arc<dyn PreferenceObjective>,
    settings: SupervisedConfig,
    unusable: usize,
) -> Result<(), Error> {
    train_drawing(dir, control, objective, settings, unusable, false).await
}

/// The same, with a reader that may draw frames.
async fn train_drawing(
    dir: &Path,
    control: &Arc<Control>,
    objective: Arc<dyn PreferenceObjective>,
    settings: SupervisedConfig,
    unusable: usize,
    draws: bool,
) -> Result<(), Error> {
    let settings =
        SupervisedConfig { steps: 7, batch_size: 2, learning_rate: 0.1, snapshot_every: 2, ..settings };
    let parts = SupervisedParts {
        name: "test".to_owned(),
        seed: 7,
        settings,
        demonstrations: Arc::new(FakeDemonstrations { control: Arc::clone(control), unusable }),
        video: Arc::new(FakeReader { frames: 2, draws, control: Arc::clone(control) }),
        encoder: None,
        policy: Arc::new(FakePolicy::new(BASE, Arc::clone(control))),
        objective,
        store: RunDir::open(dir, &json!({}), "")?,
        observers: Vec::new(),
        cancel: CancellationToken::new(),
    };
    SupervisedTraining::new(parts).run().await.map(drop)
}

async fn train_under(
    dir: &Path,
    rule: impl Fn(&Call<'_>) -> Act + Send + Sync + 'static,
) -> Result<(), Error> {
    train(dir, &Arc::new(Control::with(rule)), Arc::new(Likelihood)).await
}

#[tokio::test]
async fn a_training_cut_at_any_call_ends_as_if_it_had_not_been() {
    let whole = scratch();
    let control = Arc::new(Control::default());
    train(whole.path(), &control, Arc::new(Likelihood)).await.unwrap();
    let calls = control.calls();
    assert!(calls.contains(&"train 6".to_owned()) && calls.len() > 20, "{calls:?}");
    for (cut, name) in calls.iter().enumerate() {
        for panics in [false, true] {
            let dir = scratch();
            let end = if panics { Act::Panic("a cut") } else { Act::Cancelled };
            let stopped = train_under(
                dir.path(),
                move |call| {
                    if call.number == cut { end.clone() } else { Act::Work }
                },
            );
            let error = stopped.await.unwrap_err();
            match panics {
                true => assert!(error.to_string().contains("a cut"), "{error}"),
                false => assert!(matches!(error, Error::Cancelled), "{error}"),
            }
            train_under(dir.path(), |_| Act::Work).await.unwrap();
            assert_same(&tree(whole.path()), &tree(dir.path()), &format!("cut at {name} ({cut})"));
        }
    }
}

#[tokio::test]
async fn each_epoch_sees_other_frames_of_a_reader_that_draws() {
    let session = async |dir: &Path, control: &Arc<Control>| {
        let settings = SupervisedConfig::default();
        train_drawing(dir, control, Arc::new(Likelihood), settings, 0, true).await
    };
    let (whole, control) = (scratch(), Arc::new(Control::default()));
    session(whole.path(), &control).await.unwrap();
    let draws: BTreeSet<String> =
        control.calls().into_iter().filter(|call| call.starts_with("draw")).collect();
    // Fourteen places of five demonstrations: two epochs, and two videos of a third.
    let places = [(0, 0), (0, 2), (0, 4), (1, 0), (1, 2), (1, 4), (2, 0), (2, 2)];
    let expected = places.map(|(epoch, index)| {
        let video = format!("clips/{index}.mp4");
        format!("draw {video} {}", Streams::new(7).seed(epoch, "frames", &video))
    });
    assert_eq!(draws, BTreeSet::from(expected));
    let dir = scratch();
    let cut = |call: &Call<'_>| if call.name == "train 4" { Act::Cancelled } else { Act::Work };
    session(dir.path(), &Arc::new(Control::with(cut))).await.unwrap_err();
    session(dir.path(), &Arc::default()).await.unwrap();
    assert_same(&tree(whole.path()), &tree(dir.path()), "cut in the second epoch");
}

#[tokio::test]
async fn a_finished_training_asks_nothing_of_its_components() {
    let dir = scratch();
    train_under(dir.path(), |_| Act::Work).await.unwrap();
    let before = tree(dir.path());
    train_under(dir.path(), |_| Act::Fail("it was asked")).await.unwrap();
    assert_same(&before, &tree(dir.path()), "left as it is");
}

#[tokio::test]
async fn a_loss_that_is_no_number_stops_with_a_remedy() {
    let dir = scratch();
    let error = train(dir.path(), &Arc::default(), Arc::new(NotANumber)).await.unwrap_err();
    assert_eq!(error.to_string(), "supervised training, step 0: the loss is NaN; lower the learning rate");
}

#[tokio::test]
async fn a_demonstration_that_fails_is_named() {
    let dir = scratch();
    let rule = |call: &Call<'_>| match call.name {
        "demonstration 3" => Act::Fail("it is torn"),
        _ => Act::Work,
    };
    let error = train_under(dir.path(), rule).await.unwrap_err().to_string();
    assert_eq!(error, "supervised training, step 1: it is torn");
}

#[tokio::test]
async fn a_video_that_cannot_be_read_costs_its_demonstration_alone() {
    let settings = || SupervisedConfig { quarantine_limit: 0.3, ..SupervisedConfig::default() };
    let torn = |call: &Call<'_>| match call.name {
        "read clips/2.mp4" => Act::BadInput("it is torn"),
        _ => Act::Work,
    };
    let whole = scratch();
    train_with(whole.path(), &Arc::new(Control::with(torn)), Arc::new(Likelihood), settings(), 0)
        .await
        .unwrap();
    let text = std::fs::read_to_string(whole.path().join("quarantine.jsonl")).unwrap();
    assert_eq!(text, "{\"stage\":\"train\",\"subject\":\"2\",\"reason\":\"it is torn\"}\n");
    let dir = scratch();
    let cut = move |call: &Call<'_>| if call.name == "train 5" { Act::Cancelled } else { torn(call) };
    train_with(dir.path(), &Arc::new(Control::with(cut)), Arc::new(Likelihood), settings(), 0)
        .await
        .unwrap_err();
    train_with(dir.path(), &Arc::new(Control::with(torn)), Arc::new(Likelihood), settings(), 0)
        .await
        .unwrap();
    assert_same(&tree(whole.path()), &tree(dir.path()), "cut and continued");
    let all_torn = |call: &Call<'_>| match call.name.starts_with("read ") {
        true => Act::BadInput("it is torn"),
        false => Act::Work,
    };
    let (dir, control) = (scratch(), Arc::new(Control::with(all_torn)));
    let stopped = train_with(dir.path(), &control, Arc::new(Likelihood), settings(), 0).await;
    let error = stopped.unwrap_err().to_string();
    assert!(error.contains("2 of 5 samples are quarantined"), "{error}");
}

/// Demonstrations that were asked for, in order.
fn asked(control: &Control) -> Vec<String> {
    let calls = control.calls().into_iter();
    calls.filter_map(|call| Some(call.strip_prefix("demonstration ")?.to_owned())).collect()
}

#[tokio::test]
async fn epochs_pass_over_all_demonstrations_each_in_an_order_of_its_own() {
    let control = Arc::new(Control::default());
    let settings = SupervisedConfig { epochs: Some(2.0), shuffle: true, ..SupervisedConfig::default() };
    let dir = scratch();
    train_with(dir.path(), &control, Arc::new(Likelihood), settings.clone(), 0).await.unwrap();
    let asked = asked(&control);
    assert_eq!(asked.len(), 10, "five steps of two");
    let epochs: Vec<Vec<&String>> = asked.chunks(5).map(|epoch| epoch.iter().collect()).collect();
    for epoch in &epochs {
        let mut sorted = epoch.clone();
        sorted.sort();
        assert_eq!(sorted, ["0", "1", "2", "3", "4"]);
    }
    assert_ne!(epochs[0], epochs[1]);
    // A finished training knows how many steps it had.
    train_with(dir.path(), &Arc::default(), Arc::new(Likelihood), settings, 0).await.unwrap();
}

#[tokio::test]
async fn rows_that_cannot_be_used_are_quarantined_up_to_a_limit() {
    let dir = scratch();
    let settings = SupervisedConfig { quarantine_limit: 0.3, ..SupervisedConfig::default() };
    let train = |unusable| {
        let (dir, settings) = (dir.path().to_owned(), settings.clone());
        async move { train_with(&dir, &Arc::default(), Arc::new(Likelihood), settings, unusable).await }
    };
    let error = train(3).await.unwrap_err();
    assert!(matches!(error, Error::TooManyQuarantined { quarantined: 3, total: 8, .. }), "{error}");
    train(2).await.unwrap();
    let text = std::fs::read_to_string(dir.path().join("quarantine.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(
        text.starts_with(r#"{"stage":"demonstrations","subject":"d.jsonl:1","reason":"it is empty"}"#),
        "{text}"
    );
}
