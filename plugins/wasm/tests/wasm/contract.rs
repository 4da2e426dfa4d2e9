//! The contract suites.

use isr_config::plugin::PluginFile;
use isr_testing::JudgeRules;
use serde_json::json;

use crate::example::built;
use crate::support::{judge, load};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_keeps_the_contract_of_judges() {
    let plugin = load(built(), &PluginFile::default()).unwrap();
    let judge = judge(&*plugin, "near_length", &json!({})).unwrap();
    let found = isr_testing::judge(judge, &JudgeRules::default()).await;
    assert!(found.is_empty(), "{found:#?}");
}
