//! The objective keeps the contract of objectives.

use isr_plugin::{BuildContext, Component};
use isr_testing::ObjectiveRules;
use objective_rust::SquaredHingeConfig;

#[test]
fn the_objective_keeps_the_contract() {
    for beta in [0.01, 0.1, 2.0] {
        let objective = SquaredHingeConfig { beta }.build(&BuildContext::default()).expect("it builds");
        assert_eq!(isr_testing::objective(objective, &ObjectiveRules::default()), []);
    }
}
