//! Libraries in a process of their own: what would end or hang this one ends in an error.

use std::time::{Duration, Instant};

use isr_api::ComponentError;
use isr_config::plugin::{Isolation, PluginFile, Plugins};
use isr_testing::{JudgeRules, ObjectiveRules};
use serde_json::Map;

use crate::built::{example_judge, example_objective, fixture};
use crate::support::{behaviour, judge, objective, verdict};

pub(crate) fn load(path: &std::path::Path, change: impl FnOnce(&mut PluginFile)) -> Plugins {
    isr_native::use_host(env!("CARGO_BIN_EXE_isr-plugin-host"));
    let mut file = PluginFile { isolation: Some(Isolation::Process), ..PluginFile::new(path) };
    change(&mut file);
    Plugins::load(&[file], &[]).unwrap()
}

/// Why an isolated judge of that behaviour gives no verdict.
async fn refusal(text: &str) -> ComponentError {
    let plugins = load(fixture(), |file| {
        // Only a loop has to reach its limit; others must not, on a busy machine either.
        file.call_s = Some(if text == "loop" { 1.0 } else { 120.0 });
        file.restarts = Some(1);
    });
    let judge = judge(&plugins, "hostile", &behaviour(text)).unwrap();
    verdict(&judge).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_keep_their_contracts_in_a_process_too() {
    let terse = judge(&load(example_judge(), |_| ()), "terse", &Map::new()).unwrap();
    assert_eq!(isr_testing::judge(terse, &JudgeRules::default()).await, []);
    let hinge = objective(&load(example_objective(), |_| ()), "squared_hinge", &Map::new()).unwrap();
    assert_eq!(isr_testing::objective(hinge, &ObjectiveRules::default()), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_asks_the_policy_from_its_process_as_from_this_one() {
    let apart = judge(&load(fixture(), |_| ()), "asks", &Map::new()).unwrap();
    let here = judge(&crate::support::load(fixture()), "asks", &Map::new()).unwrap();
    assert_eq!(verdict(&apart).await.unwrap(), verdict(&here).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_is_ended_at_the_limit() {
    let start = Instant::now();
    let said = refusal("loop").await.to_string();
    assert!(said.starts_with("plugin `hostile`, judge: no answer within 1 s"), "{said}");
    assert!(start.elapsed() < Duration::from_secs(300), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_ends_its_own_process_only() {
    let said = refusal("abort").await.to_string();
    assert!(said.starts_with("plugin `hostile`, judge: the process ended (by signal 6"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_names_plugin_call_and_cause() {
    let said = refusal("panic in call").await.to_string();
    assert!(said.contains("plugin `hostile`, judge: panicked: cannot judge 7 (src/hostile.rs:"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_library_prints_does_not_disturb_the_protocol() {
    let judge = judge(&load(fixture(), |_| ()), "hostile", &behaviour("print")).unwrap();
    assert_eq!(verdict(&judge).await.unwrap().p_first, 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_is_bounded() {
    let plugins = load(fixture(), |file| {
        file.memory_mb = Some(4096);
        file.restarts = Some(1);
    });
    let judge = judge(&plugins, "hostile", &behaviour("allocate")).unwrap();
    let said = verdict(&judge).await.unwrap_err().to_string();
    assert!(said.contains("plugin `hostile`, judge: the process ended (by signal 6"), "{said}");
    assert!(said.contains("memory allocation of"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_beyond_the_limits_are_refused_in_a_process_and_in_this_one() {
    for isolation in [Isolation::Process, Isolation::InProcess] {
        let plugins = load(fixture(), |file| file.isolation = Some(isolation));
        for (text, says) in [
            ("ask for too much", "max_new_tokens is 5000; a plugin may ask for at most 4096"),
            ("ask too often", "the call has asked 1000 questions, more than it may"),
        ] {
            let judge = judge(&plugins, "hostile", &behaviour(text)).unwrap();
            let said = verdict(&judge).await.unwrap_err().to_string();
            assert!(said.starts_with("plugin `hostile`, judge: "), "{said}");
            assert!(said.contains(says), "{isolation:?}: {said}");
        }
    }
}

#[test]
fn limits_that_this_process_cannot_hold_are_refused() {
    let file = PluginFile { memory_mb: Some(64), ..PluginFile::new(fixture()) };
    let error = Plugins::load(&[file], &[]).unwrap_err().to_string();
    assert!(
        error.ends_with("`memory_mb` cannot be held in this process; it needs isolation = \"process\"")
    );
}
