//! Components that panic, lie and hang end in errors that name plugin, call and cause.

use std::sync::Arc;
use std::time::{Duration, Instant};

use isr_api::{ComponentError, Granularity, Kind, ObjectiveBatch, View, ViewLogProbs};

use crate::built::fixture;
use crate::support::{behaviour, fixture_within, judge, load, log, objective, verdict};

/// Why a judge of that behaviour cannot be built.
fn not_built(text: &str) -> String {
    match judge(&fixture_within(60.0, 1.0), "hostile", &behaviour(text)) {
        Ok(_) => panic!("{text}: it was built"),
        Err(cause) => cause.to_string(),
    }
}

/// Why a judge of that behaviour gives no verdict.
async fn refusal(text: &str) -> ComponentError {
    let judge = judge(&load(fixture()), "hostile", &behaviour(text)).unwrap();
    verdict(&judge).await.unwrap_err()
}

#[test]
fn a_component_that_cannot_be_built_says_why() {
    let said = not_built("panic in construct");
    assert!(said.starts_with("panicked: no judge today (src/hostile.rs:"), "{said}");
    let said = not_built("fail in construct");
    assert!(said.starts_with("its list is missing: No such file or directory"), "{said}");
    let start = Instant::now();
    let said = not_built("loop in construct");
    assert_eq!(said, "it did not construct within 1 s (`start_s`), and is left to itself");
    assert!(start.elapsed() < Duration::from_secs(300));
}

#[test]
fn validation_may_refuse_and_panic() {
    let plugins = load(fixture());
    let (_, loaded) = plugins.find(Kind::Judge, "hostile").unwrap();
    let validate = |text| loaded.plugin.validate(Kind::Judge, "hostile", &behaviour(text));
    assert_eq!(validate("nan"), Ok(()));
    assert_eq!(validate(""), Err("behaviour is empty; name one".to_owned()));
    let said = validate("panic in validate").unwrap_err();
    assert!(
        said.starts_with("plugin `hostile`, validate: panicked: assertion `left != right` failed"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_names_plugin_call_and_cause() {
    let error = refusal("panic in call").await;
    assert!(matches!(error, ComponentError::Panicked(_)));
    let said = error.to_string();
    assert!(said.starts_with("panicked: cannot judge 7 (src/hostile.rs:"), "{said}");
    assert!(said.ends_with("(plugin `hostile`, judge)"), "{said}");
    assert!(refusal("panic with a bomb").await.to_string().contains("no message"));
    let error = refusal("bad input").await;
    assert!(matches!(error, ComponentError::BadInput(_)));
    assert_eq!(error.to_string(), "plugin `hostile`, judge: this video is too dark");
    let error = refusal("fail").await;
    assert!(matches!(error, ComponentError::Failed(_)));
    let said = error.to_string();
    assert!(said.starts_with("plugin `hostile`, judge: its list is missing: No such file"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_drop_is_logged_and_goes_no_further() {
    let log = log();
    let judge = judge(&load(fixture()), "hostile", &behaviour("panic in drop")).unwrap();
    assert!(verdict(&judge).await.is_ok());
    drop(judge);
    assert!(
        log.has("plugin `hostile`, drop: panicked: assertion `left != right` failed"),
        "{}",
        log.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plugin_logs_is_in_the_log_from_any_thread() {
    let log = log();
    let judge = judge(&load(fixture()), "hostile", &behaviour("log")).unwrap();
    verdict(&judge).await.unwrap();
    assert!(log.has("from the call answer=42"), "{}", log.text());
    assert!(log.has("from a thread"), "{}", log.text());
    assert!(log.text().contains("plugin=\"hostile\""), "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_call_is_named_while_it_lasts() {
    let log = log();
    let judge = judge(&fixture_within(0.2, 60.0), "hostile", &behaviour("slow")).unwrap();
    verdict(&judge).await.unwrap();
    assert!(log.has("plugin `hostile`, judge: silent for 0."), "{}", log.text());
    assert!(log.text().contains("give the plugin isolation = \"process\""), "{}", log.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_learns_that_nobody_waits_any_more() {
    let log = log();
    let judge = judge(&load(fixture()), "hostile", &behaviour("wait")).unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(200), verdict(&judge)).await;
    assert!(waited.is_err());
    assert!(log.has("nobody waits any more"), "{}", log.text());
}

/// What an objective of that behaviour says of two pairs.
fn value(text: &str) -> Result<isr_api::ObjectiveValue, ComponentError> {
    let objective = objective(&load(fixture()), "hostile", &behaviour(text)).unwrap();
    assert_eq!(objective.requirements().granularity, Granularity::Summed);
    let view =
        |view| ViewLogProbs { view, policy: vec![-1.0, -2.0], reference: Vec::new(), lengths: vec![3, 4] };
    objective.evaluate(&ObjectiveBatch { views: vec![view(View::Chosen), view(View::Rejected)] })
}

#[test]
fn objectives_that_panic_are_named() {
    let said = value("panic").unwrap_err().to_string();
    assert!(said.starts_with("panicked: no gradient today (src/hostile.rs:"), "{said}");
    assert!(said.ends_with("(plugin `hostile`, evaluate)"), "{said}");
    let Err(cause) = objective(&load(fixture()), "hostile", &behaviour("panic in requirements")) else {
        panic!("it was built");
    };
    assert!(cause.to_string().contains("(plugin `hostile`, requirements)"), "{cause}");
    assert_eq!(value("none").unwrap().gradients, [[0.0; 2]; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_run_beside_each_other() {
    let judge = judge(&load(fixture()), "hostile", &behaviour("slow")).unwrap();
    let start = Instant::now();
    let calls = (0..6).map(|_| {
        let judge = Arc::clone(&judge);
        tokio::spawn(async move { verdict(&judge).await.unwrap() })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}
