//! Components of libraries keep the contracts that built-in ones keep.

use std::sync::Arc;

use isr_api::{BuildContext, Kind};
use isr_config::plugin::{PluginSettings, Plugins};
use isr_testing::{FakePolicy, JudgeRules, ObjectiveRules};
use serde_json::Map;

use crate::built::{example_judge, example_objective, fixture};
use crate::support::{judge, load, objective, verdict};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_judge_keeps_the_contract() {
    let plugins = load(example_judge());
    let judge = judge(&plugins, "terse", &Map::new()).unwrap();
    assert_eq!(isr_testing::judge(judge, &JudgeRules::default()).await, []);
}

#[test]
fn the_example_objective_keeps_the_contract() {
    let plugins = load(example_objective());
    let objective = objective(&plugins, "squared_hinge", &Map::new()).unwrap();
    assert_eq!(isr_testing::objective(objective, &ObjectiveRules::default()), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_judge_that_asks_the_policy_keeps_the_contract() {
    let judge = judge(&load(fixture()), "asks", &Map::new()).unwrap();
    assert_eq!(isr_testing::judge(Arc::clone(&judge), &JudgeRules::default()).await, []);
    let votes = verdict(&judge).await.unwrap().votes;
    assert_eq!(votes.len(), 2);
    assert!(votes.iter().all(|vote| vote.p_first > 0.0 && vote.p_first < 1.0), "{votes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retrospector_encoder_and_policy_keep_their_contracts() {
    let plugins: Plugins = load(fixture());
    let (settings, cx) = (Map::new(), BuildContext::default());
    let with = PluginSettings { settings: &settings, cx: &cx };
    let of = |kind, name| Arc::clone(&plugins.find(kind, name).unwrap().1.plugin);
    let retrospector = of(Kind::Retrospector, "describes").retrospector("describes", &with).unwrap();
    assert_eq!(isr_testing::retrospector(retrospector, &Arc::new(FakePolicy::default())).await, []);
    let encoder = of(Kind::Encoder, "mean").encoder("mean", &with).unwrap();
    assert_eq!(encoder.device_key(), "paper");
    assert_eq!(isr_testing::encoder(encoder).await, []);
    let policy = of(Kind::Policy, "two").policy("two", &with).unwrap();
    assert_eq!(isr_testing::policy(policy).await, []);
}

#[test]
fn manifests_tell_what_the_config_structs_document() {
    let plugins = load(example_judge());
    let (manifest, _) = plugins.find(Kind::Judge, "terse").unwrap();
    assert_eq!(manifest.version, "1.0.0");
    assert_eq!(manifest.summary(), "Prefers the answer of about so many words.");
    assert_eq!(manifest.example, "words = 12\nslope = 0.2\n");
    assert_eq!(manifest.schema["properties"]["words"]["default"], 12);
    assert_eq!(manifest.schema["additionalProperties"], false);
}
