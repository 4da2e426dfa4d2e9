//! The code of `docs/plugins-python.md` does what the text says.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use isr_api::Kind;
use isr_testing::fixtures::case;
use isr_testing::{FakePolicy, JudgeRules, ObjectiveRules};
use serde_json::json;

use crate::support::{File, judge, objective};

/// The guide's blocks of Python.
fn blocks() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/plugins-python.md");
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```python\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

fn block(says: &str) -> File {
    let found = blocks().into_iter().find(|block| block.contains(says));
    File::new(&found.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_judge_and_the_one_with_settings() {
    let policy = Arc::new(FakePolicy::default()).frozen();
    let file = block("import Judge");
    let first = judge(&*file.load().unwrap(), "brevity", &json!({})).unwrap();
    assert_eq!(first.judge(&case("a", "bcd"), &policy).await.unwrap().p_first, 1.0);

    let file = block("defaults = ");
    let plugin = file.load().unwrap();
    let lenient = judge(&*plugin, "brevity", &json!({"margin": 2})).unwrap();
    assert_eq!(lenient.judge(&case("a", "bcd"), &policy).await.unwrap().p_first, 0.5);
    assert_eq!(lenient.judge(&case("abcd", "e"), &policy).await.unwrap().p_first, 0.0);
    let refused = judge(&*plugin, "brevity", &json!({"margin": -1})).err().unwrap();
    assert!(refused.contains("margin must be 0 or more"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_judges_of_the_guide_keep_the_contract() {
    for says in ["import Judge", "defaults = "] {
        let file = block(says);
        let plugin = file.load().unwrap();
        let judge = judge(&*plugin, "brevity", &json!({})).unwrap();
        let found = isr_testing::judge(judge, &JudgeRules::default()).await;
        assert!(found.is_empty(), "{says}: {found:#?}");
    }
}

#[test]
fn the_test_of_the_guide_passes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, says: &str| {
        let block = blocks().into_iter().find(|block| block.contains(says)).unwrap();
        fs::write(folder.path().join(name), block).unwrap();
    };
    write("brevity.py", "import Judge");
    write("test_brevity.py", "def test_short");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tested = Command::new("python3")
        .args(["-c", "import test_brevity; test_brevity.test_short()"])
        .current_dir(folder.path())
        .env("PYTHONPATH", package)
        .output()
        .unwrap();
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
}

#[test]
fn the_objective_keeps_the_contract() {
    let file = block("class Margin");
    let plugin = file.load().unwrap();
    let kinds: Vec<_> = plugin.manifests().iter().map(|it| (it.kind, it.name.as_str())).collect();
    assert_eq!(kinds, [(Kind::Retrospector, "twice"), (Kind::Objective, "margin")]);
    let found = isr_testing::objective(objective(&*plugin, "margin").unwrap(), &ObjectiveRules::default());
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_evaluator_the_observer_and_the_datasets_are_what_the_guide_says() {
    for (says, kinds) in [
        ("class Named", vec![(Kind::Evaluator, "named")]),
        ("class Losses", vec![(Kind::Observer, "losses")]),
        ("class Words", vec![(Kind::Policy, "words")]),
        ("class Means", vec![(Kind::Encoder, "means")]),
        ("class Clips", vec![(Kind::Data, "clips"), (Kind::Preferences, "pairs")]),
    ] {
        let plugin = block(says).load().unwrap();
        let found: Vec<_> = plugin.manifests().iter().map(|it| (it.kind, it.name.as_str())).collect();
        assert_eq!(found, kinds);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_components_of_other_kinds_keep_their_contracts() {
    let (settings, cx) = (&serde_json::Map::new(), &isr_api::BuildContext::default());
    let with = &isr_config::plugin::PluginSettings { settings, cx };
    let (named, losses, clips) = (block("class Named"), block("class Losses"), block("class Clips"));
    let evaluator = named.load().unwrap().evaluator("named", with).unwrap();
    let sample = isr_testing::fixtures::labelled_sample();
    assert_eq!(isr_testing::evaluator(evaluator, &sample, "the bar").await, []);
    let observer = losses.load().unwrap().observer("losses", with).unwrap();
    assert_eq!(isr_testing::observer(observer), []);
    let (words, means) = (block("class Words"), block("class Means"));
    let found = isr_testing::policy(words.load().unwrap().policy("words", with).unwrap()).await;
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!(isr_testing::encoder(means.load().unwrap().encoder("means", with).unwrap()).await, []);
    let datasets = clips.load().unwrap();
    assert_eq!(isr_testing::data(datasets.data("clips", with).unwrap()).await, []);
    assert_eq!(isr_testing::preferences(datasets.preferences("pairs", with).unwrap()).await, []);
}
