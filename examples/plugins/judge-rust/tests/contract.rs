//! The judge keeps the contract of judges.

use isr_contract::JudgeRules;
use isr_plugin::{BuildContext, Component};
use judge_rust::TerseConfig;

#[tokio::test]
async fn the_judge_keeps_the_contract() {
    let judge = TerseConfig::default().build(&BuildContext::default()).expect("it builds");
    assert_eq!(isr_contract::judge(judge, &JudgeRules::default()).await, []);
}
