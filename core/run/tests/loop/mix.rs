//! Pairs of datasets: alone, in some iterations, and beside the run's own.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::records::{PairRecord, PreferenceRecord, QuarantineRecord, Summary};
use isr_api::{ComponentError, Error, Preference, Preferences, Role, Turn, UnusableRow};
use isr_run::PreferenceData;
use isr_run::store::read_journal;

use crate::bench::{Fakes, Settings, Tree, assert_same, open_with, scratch, tree};
use crate::control::{Act, Call, Control};
use crate::fakes::AllViews;

/// Rows about videos and without, and one that cannot be used.
#[derive(Clone)]
struct Pairs(usize);

const WORDS: [&str; 3] = ["red", "green blue", "grey"];

#[async_trait]
impl Preferences for Pairs {
    async fn rows(&self) -> Result<Vec<Result<Preference, UnusableRow>>, ComponentError> {
        let row = |number: usize| {
            let origin = format!("pairs.jsonl:{}", number + 1);
            if number == 2 {
                return Err(UnusableRow { origin, reason: "`rejected` is missing".to_owned() });
            }
            let turns = vec![Turn { role: Role::System, text: "Be short.".to_owned() }];
            Ok(Preference {
                // An id that a sample of the run has, too.
                id: format!("s{number}"),
                origin,
                video: number.is_multiple_of(2).then(|| format!("clips/p{number}.mp4").into()),
                turns: if number.is_multiple_of(3) { turns } else { Vec::new() },
                prompt: format!("What is in {number}?"),
                chosen: WORDS[number % 3].to_owned(),
                rejected: WORDS[(number + 1) % 3].to_owned(),
                p_chosen: None,
            })
        };
        Ok((0..self.0).map(row).collect())
    }
}

fn data(share: f64, iterations: &[u32]) -> PreferenceData {
    PreferenceData { preferences: Arc::new(Pairs(9)), share, iterations: iterations.to_vec() }
}

async fn run(
    dir: &Path,
    settings: &Settings,
    control: &Arc<Control>,
    data: PreferenceData,
) -> Result<Summary, Error> {
    let mut components = Fakes::new(control).components;
    components.objective = Arc::clone(&settings.objective);
    open_with(dir, settings, components)?.with_preferences(vec![data]).run().await
}

fn offline() -> Settings {
    let mut settings = Settings::with_snapshots();
    settings.r#loop.iterations = 1;
    settings.evaluation.samples = Some(1);
    settings
}

fn lines<T: serde::de::DeserializeOwned>(dir: &Path, iteration: u32, name: &str) -> Vec<T> {
    read_journal(&dir.join(format!("iteration-{iteration:02}/{name}"))).unwrap()
}

#[tokio::test]
async fn a_run_on_data_alone_trains_on_its_rows_and_quarantines_the_rest() {
    let dir = scratch();
    let summary = run(dir.path(), &offline(), &Arc::default(), data(1.0, &[])).await.unwrap();
    let of_run = &summary.iterations[0];
    assert_eq!((of_run.samples, of_run.pairs.kept, of_run.pairs.from_data), (9, 8, 8));
    assert_eq!(of_run.quarantined["preferences"], 1);
    assert!((of_run.response_tokens - 1.3).abs() < 0.1, "{}", of_run.response_tokens);
    let pairs: Vec<PairRecord> = lines(dir.path(), 1, "pairs.jsonl");
    assert_eq!(pairs[0].origin.as_deref(), Some("pairs.jsonl:1"));
    assert_eq!((pairs[0].id.as_str(), pairs[0].turns.len()), ("s0-2", 1));
    assert_eq!((pairs[1].video.as_str(), pairs[1].p_chosen), ("", 1.0));
    let scored: Vec<PreferenceRecord> = lines(dir.path(), 1, "preferences.jsonl");
    assert_eq!(scored[0].responses[0].policy, of_run.policy, "the policy before training");
    let quarantined: Vec<QuarantineRecord> = lines(dir.path(), 1, "quarantine.jsonl");
    assert_eq!(
        (quarantined[0].subject.as_str(), quarantined[0].reason.as_str()),
        ("pairs.jsonl:3", "`rejected` is missing")
    );
    for absent in ["responses.jsonl", "contexts.jsonl", "verdicts.jsonl"] {
        assert!(!dir.path().join("iteration-01").join(absent).exists(), "{absent}");
    }
}

/// What a directory holds in the end, whatever was cut.
async fn cut_everywhere(settings: Settings, make: fn() -> PreferenceData) -> Tree {
    let whole = scratch();
    let control = Arc::new(Control::default());
    run(whole.path(), &settings, &control, make()).await.unwrap();
    let calls = control.calls();
    assert!(calls.len() > 20, "{calls:?}");
    for (cut, name) in calls.iter().enumerate() {
        let dir = scratch();
        let rule = move |call: &Call<'_>| if call.number == cut { Act::Panic("a cut") } else { Act::Work };
        let stopped = run(dir.path(), &settings, &Arc::new(Control::with(rule)), make()).await;
        assert!(stopped.unwrap_err().to_string().contains("a cut"));
        run(dir.path(), &settings, &Arc::default(), make()).await.unwrap();
        assert_same(&tree(whole.path()), &tree(dir.path()), &format!("cut at {name} ({cut})"));
    }
    tree(whole.path())
}

#[tokio::test]
async fn a_training_on_data_cut_at_any_call_ends_as_if_it_had_not_been() {
    let mut settings = offline();
    settings.r#loop.concurrency = 1;
    cut_everywhere(settings, || data(1.0, &[])).await;
}

#[tokio::test]
async fn a_mixed_run_cut_at_any_call_ends_as_if_it_had_not_been() {
    let mut settings = Settings::with_snapshots();
    settings.r#loop.concurrency = 1;
    settings.r#loop.samples = Some(4);
    settings.evaluation.samples = Some(1);
    cut_everywhere(settings, || data(0.5, &[2])).await;
}

#[tokio::test]
async fn shares_say_how_many_pairs_come_from_data_and_in_which_iterations() {
    let dir = scratch();
    let mut settings = Settings::default();
    settings.r#loop.iterations = 2;
    let alone = scratch();
    run(alone.path(), &settings, &Arc::default(), data(0.25, &[7])).await.unwrap();
    let summary = run(dir.path(), &settings, &Arc::default(), data(0.25, &[1])).await.unwrap();
    let own = |dir: &Path, t| -> Vec<PairRecord> {
        let pairs: Vec<PairRecord> = lines(dir, t, "pairs.jsonl");
        pairs.into_iter().filter(|pair| pair.origin.is_none()).collect()
    };
    let first = &summary.iterations[0].pairs;
    let sampled = own(dir.path(), 1);
    assert_eq!(sampled, own(alone.path(), 1), "the run's own pairs are what they were");
    let expected = (sampled.len() as f64 / 3.0).round() as usize;
    assert!(
        expected > 0 && first.from_data == expected && first.kept == sampled.len() + expected,
        "{first:?}"
    );
    assert_eq!(summary.iterations[1].pairs.from_data, 0);
}

#[tokio::test]
async fn every_view_is_scored_of_pairs_with_a_video_and_text_alone_is_quarantined_where_it_needs_one() {
    let dir = scratch();
    let mut settings = offline();
    settings.objective = Arc::new(AllViews);
    let summary = run(dir.path(), &settings, &Arc::default(), data(1.0, &[])).await.unwrap();
    assert_eq!(summary.iterations[0].quarantined["reference"], 4);
    let quarantined: Vec<QuarantineRecord> = lines(dir.path(), 1, "quarantine.jsonl");
    assert!(quarantined.last().unwrap().reason.ends_with("the pair has no video"), "{quarantined:?}");
}

/// One pair about a video that a held-out sample is about.
struct Leak;

#[async_trait]
impl Preferences for Leak {
    async fn rows(&self) -> Result<Vec<Result<Preference, UnusableRow>>, ComponentError> {
        let mut rows = Pairs(1).rows().await?;
        rows[0].as_mut().unwrap().video = Some("clips/e1.mp4".into());
        Ok(rows)
    }
}

#[tokio::test]
async fn held_out_videos_are_not_trained_on() {
    let dir = scratch();
    let mut settings = offline();
    settings.evaluation.samples = None;
    let leak = PreferenceData { preferences: Arc::new(Leak), ..data(1.0, &[]) };
    let error = run(dir.path(), &settings, &Arc::default(), leak).await.unwrap_err().to_string();
    assert!(error.contains("the held-out sample `e2`") && error.contains("share the video"), "{error}");
    assert!(error.contains("pairs.jsonl:1"), "{error}");
}

#[tokio::test]
async fn other_rows_are_another_run() {
    let dir = scratch();
    run(dir.path(), &offline(), &Arc::default(), data(1.0, &[])).await.unwrap();
    let other = PreferenceData { preferences: Arc::new(Pairs(8)), ..data(1.0, &[]) };
    let error = run(dir.path(), &offline(), &Arc::default(), other).await.unwrap_err().to_string();
    assert!(error.contains("the pairs of `preferences` changed since it was started"), "{error}");
}
