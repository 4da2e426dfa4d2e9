//! The contract suites.

use std::sync::Arc;

use isr_api::Kind;
use isr_config::plugin::PluginFile;
use isr_testing::{JudgeRules, ObjectiveRules};
use serde_json::json;

use crate::support::{DPO, File, example, judge, load};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_keeps_the_contract_of_judges() {
    let plugin = load(&example(), &PluginFile::default()).unwrap();
    let judge = judge(&*plugin, "evidence", &json!({"sharpness": 2.5})).unwrap();
    // Half of the suite's cases have no context: just as many get a verdict as must.
    let found = isr_testing::judge(judge, &JudgeRules::default()).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn an_objective_in_python_keeps_the_contract_of_objectives() {
    let objective = File::new(DPO).objective().unwrap();
    let found = isr_testing::objective(objective, &ObjectiveRules::default());
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retrospector_in_python_keeps_the_contract_of_retrospectors() {
    let file = File::new(
        "class It(Retrospector):\n    def describe(self, case):\n        \
         before = case.previous.text if case.previous else 'nothing'\n        \
         return case.generate('describe it. before: ' + before, temperature=0.5)[0].text + '.'",
    );
    let plugin = file.load().unwrap();
    let (settings, cx) = (&serde_json::Map::new(), &isr_api::BuildContext::default());
    let built = plugin.retrospector("it", &isr_config::plugin::PluginSettings { settings, cx });
    let built = built.map_err(|error| error.to_string()).unwrap();
    let found = isr_testing::retrospector(built, &Arc::default()).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_file_says_what_it_gives() {
    let plugin = load(&example(), &PluginFile::default()).unwrap();
    let [manifest] = plugin.manifests() else { panic!("one component") };
    assert_eq!((manifest.kind, manifest.name.as_str()), (Kind::Judge, "evidence"));
    assert_eq!(manifest.version, "0.1.0");
    assert!(manifest.help.starts_with("Prefers the answer with the larger share of words"));
    assert_eq!(manifest.schema["properties"]["sharpness"], json!({"default": 4.0, "type": "number"}));
}

#[test]
fn settings_that_are_refused_are_refused_when_it_is_built() {
    let plugin = load(&example(), &PluginFile::default()).unwrap();
    let refused = judge(&*plugin, "evidence", &json!({"sharpness": 0.0})).err().unwrap();
    assert!(refused.starts_with("ValueError: sharpness is 0.0; it must be more than 0"), "{refused}");
}
