//! Equal seeds give equal bytes, whatever the scheduling.

use std::sync::Arc;

use crate::bench::{Settings, Tree, assert_same, run, run_under, scratch, tree};
use crate::control::Control;

async fn tree_of(settings: &Settings, control: Control) -> Tree {
    let dir = scratch();
    run_under(dir.path(), settings, &Arc::new(control)).await.unwrap();
    let mut tree = tree(dir.path());
    // It holds `loop.concurrency`, which these tests change.
    tree.remove("config.toml");
    tree
}

#[tokio::test]
async fn equal_seeds_give_equal_bytes() {
    let settings = Settings::default();
    let first = tree_of(&settings, Control::default()).await;
    assert_same(&first, &tree_of(&settings, Control::default()).await, "second run");
    let other = tree_of(&Settings { seed: 8, ..settings }, Control::default()).await;
    let responses = "iteration-01/responses.jsonl";
    assert_ne!(first[responses], other[responses]);
}

#[tokio::test]
async fn results_do_not_depend_on_the_number_in_flight() {
    let mut settings = Settings::default();
    let reference = tree_of(&settings, Control::default()).await;
    for concurrency in [1, 2, 32] {
        settings.r#loop.concurrency = concurrency;
        assert_same(&reference, &tree_of(&settings, Control::default()).await, "in flight");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn results_do_not_depend_on_who_finishes_first() {
    let mut settings = Settings::default();
    let reference = tree_of(&settings, Control::default()).await;
    for (seed, concurrency) in [(1, 4), (2, 8), (3, 32)] {
        settings.r#loop.concurrency = concurrency;
        assert_same(&reference, &tree_of(&settings, Control::default().delayed(seed)).await, "delays");
    }
}

#[tokio::test]
async fn results_do_not_depend_on_the_cache() {
    let mut settings = Settings::default();
    let reference = tree_of(&settings, Control::default()).await;
    settings.r#loop.feature_cache_mb = 0;
    let control = Arc::<Control>::default();
    let dir = scratch();
    run_under(dir.path(), &settings, &control).await.unwrap();
    let mut uncached = tree(dir.path());
    uncached.remove("config.toml");
    assert_same(&reference, &uncached, "no cache");
}

#[tokio::test]
async fn no_more_than_in_flight_items_are_under_way() {
    let mut settings = Settings::default();
    settings.r#loop.concurrency = 3;
    settings.evaluation.base = false;
    settings.r#loop.iterations = 1;
    // Evaluation asks for two answers at once.
    let control = Arc::new(Control::default().delayed(5));
    let mut components = crate::bench::Fakes::new(&control).components;
    components.evaluator = None;
    let dir = scratch();
    crate::bench::run_with(dir.path(), &settings, components).await.unwrap();
    assert_eq!(control.most_under_way(), 3);
}

#[tokio::test]
async fn each_iteration_draws_its_own_samples() {
    let dir = scratch();
    let mut settings = Settings::default();
    settings.r#loop.samples = Some(4);
    let summary = run(dir.path(), &settings).await.unwrap();
    assert!(summary.iterations.iter().all(|row| row.samples == 4));
    let tree = tree(dir.path());
    let drawn = |t: u32| {
        let bytes = tree[&format!("iteration-{t:02}/responses.jsonl")].clone().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| line[..15].to_owned()).collect::<Vec<_>>()
    };
    assert!(drawn(1) != drawn(2) || drawn(2) != drawn(3));
}
