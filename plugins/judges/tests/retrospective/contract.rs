//! The contracts that components of any kind must keep, plugins included.

use std::sync::Arc;

use isr_testing::JudgeRules;

use crate::config::{judge, retrospector};

#[tokio::test]
async fn the_judge_keeps_the_contract() {
    for body in ["min_choice_mass = 0", "min_choice_mass = 0\norders = \"given\""] {
        assert_eq!(isr_testing::judge(judge(body), &JudgeRules::default()).await, [], "{body}");
    }
}

#[tokio::test]
async fn the_retrospector_keeps_the_contract() {
    assert_eq!(isr_testing::retrospector(retrospector(""), &Arc::default()).await, []);
}
