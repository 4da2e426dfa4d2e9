//! The judge keeps the contract of judges.

use isr_plugin::{BuildContext, Component};
use isr_testing::JudgeRules;
use judge_rust::TerseConfig;

#[tokio::test]
async fn the_judge_keeps_the_contract() {
    let judge = TerseConfig::default().build(&BuildContext::default()).expect("it builds");
    assert_eq!(isr_testing::judge(judge, &JudgeRules::default()).await, []);
}
