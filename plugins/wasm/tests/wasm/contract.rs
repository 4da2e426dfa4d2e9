//! The contract suites.

use isr_contract::JudgeRules;
use isr_core::plugin::PluginFile;
use serde_json::json;

use crate::example::built;
use crate::support::{judge, load};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_keeps_the_contract_of_judges() {
    let plugin = load(built(), &PluginFile::default()).unwrap();
    let judge = judge(&*plugin, "near_length", &json!({})).unwrap();
    let found = isr_contract::judge(judge, &JudgeRules::default()).await;
    assert!(found.is_empty(), "{found:#?}");
}
