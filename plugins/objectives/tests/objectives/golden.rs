//! TRL's figures (`tests/golden/`; `make.py` made them).

use isr_api::{ObjectiveBatch, ObjectiveValue, View, ViewLogProbs};
use serde_json::Value;

use crate::config::build;

const FLOAT64: &str = include_str!("../golden/trl.json");
const FLOAT32: &str = include_str!("../golden/trl_float32.json");

/// TRL's name of each metric.
const METRICS: [(&str, &str); 6] = [
    ("chosen_reward", "rewards/chosen"),
    ("rejected_reward", "rewards/rejected"),
    ("reward_margin", "rewards/margins"),
    ("accuracy", "rewards/accuracies"),
    ("logps_chosen", "logps/chosen"),
    ("logps_rejected", "logps/rejected"),
];

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

pub(crate) fn assert_close(got: f64, expected: f64, tolerance: f64, what: &str) {
    let allowed = tolerance * expected.abs().max(1.0);
    assert!((got - expected).abs() <= allowed, "{what}: {got}, TRL {expected}");
}

pub(crate) fn assert_all_close(got: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (&got, &expected) in got.iter().zip(expected) {
        assert_close(got, expected, tolerance, what);
    }
}

/// Sums of one answer of each pair.
fn sums(pairs: &Value, answer: &str, model: &str) -> Vec<f64> {
    let pairs = pairs.as_array().unwrap().iter();
    pairs.map(|pair| numbers(&pair[answer][model]).iter().sum()).collect()
}

fn summed(view: View, policy: Vec<f64>, reference: Vec<f64>) -> ViewLogProbs {
    let lengths = vec![1; policy.len()];
    ViewLogProbs { view, policy, reference, lengths }
}

fn tokens(answers: &[Vec<f64>]) -> ObjectiveBatch {
    let (policy, lengths) = (answers.concat(), answers.iter().map(Vec::len).collect());
    ObjectiveBatch { views: vec![ViewLogProbs { view: View::Chosen, policy, reference: vec![], lengths }] }
}

fn dpo(case: &Value, batch: &ObjectiveBatch) -> ObjectiveValue {
    let body = format!(
        "beta = {:?}\nlabel_smoothing = {:?}",
        case["beta"].as_f64().unwrap(),
        case["label_smoothing"].as_f64().unwrap()
    );
    build("dpo", &body).evaluate(batch).unwrap()
}

#[test]
fn dpo_is_trl_in_float64() {
    let golden: Value = serde_json::from_str(FLOAT64).unwrap();
    let cases = golden["dpo"].as_array().unwrap();
    assert_eq!(cases.len(), 24);
    for case in cases {
        let pairs = &golden["batches"][case["batch"].as_str().unwrap()];
        let view =
            |view, answer| summed(view, sums(pairs, answer, "policy"), sums(pairs, answer, "reference"));
        let batch =
            ObjectiveBatch { views: vec![view(View::Chosen, "chosen"), view(View::Rejected, "rejected")] };
        let value = dpo(case, &batch);
        let what = format!("{} {} {}", case["batch"], case["beta"], case["label_smoothing"]);
        assert_close(value.loss, case["loss"].as_f64().unwrap(), 1e-12, &what);
        assert_all_close(&value.gradients[0], &numbers(&case["by_chosen"]), 1e-12, &what);
        assert_all_close(&value.gradients[1], &numbers(&case["by_rejected"]), 1e-12, &what);
        let metrics = case["metrics"].as_object().unwrap();
        for (ours, theirs) in METRICS.iter().filter(|_| !metrics.is_empty()) {
            // TRL takes the mean of the accuracy in float32.
            let tolerance = if *ours == "accuracy" { 1e-6 } else { 1e-12 };
            assert_close(value.metrics[*ours], metrics[*theirs].as_f64().unwrap(), tolerance, ours);
        }
    }
}

#[test]
fn sft_is_trl_one_example_at_a_time_in_float64() {
    let golden: Value = serde_json::from_str(FLOAT64).unwrap();
    for case in golden["sft"].as_array().unwrap() {
        let pairs = golden["batches"][case["batch"].as_str().unwrap()].as_array().unwrap();
        let answers: Vec<_> = pairs.iter().map(|pair| numbers(&pair["chosen"]["policy"])).collect();
        let value = build("sft", "").evaluate(&tokens(&answers)).unwrap();
        let losses = numbers(&case["loss_per_example"]);
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        assert_close(value.loss, mean, 1e-12, "loss");
        assert_close(value.metrics["nll"], mean, 1e-12, "nll");
        let by_token = numbers(&case["by_token_per_example"]);
        let expected: Vec<f64> =
            by_token.iter().zip(&answers).flat_map(|(&slope, answer)| vec![slope; answer.len()]).collect();
        assert_all_close(&value.gradients[0], &expected, 1e-12, "gradient");
    }
}

#[test]
fn dpo_is_an_earlier_run_of_trl_in_float32() {
    let golden: Value = serde_json::from_str(FLOAT32).unwrap();
    let (policy, reference) = (numbers(&golden["policy_sum"]), numbers(&golden["ref_sum"]));
    let pairs = policy.len() / 2;
    let views = vec![
        summed(View::Chosen, policy[..pairs].to_vec(), reference[..pairs].to_vec()),
        summed(View::Rejected, policy[pairs..].to_vec(), reference[pairs..].to_vec()),
    ];
    for (name, beta) in [("dpo.sigmoid", 0.1), ("dpo.sigmoid_beta0.5", 0.5)] {
        let case = &golden["cases"][name];
        let batch = ObjectiveBatch { views: views.clone() };
        let value = build("dpo", &format!("beta = {beta}")).evaluate(&batch).unwrap();
        assert_close(value.loss, case["loss_mean_f64"].as_f64().unwrap(), 1e-6, name);
        assert_all_close(&value.gradients.concat(), &numbers(&case["grad_wrt_sums"]), 1e-7, name);
        for (ours, theirs) in &METRICS[..4] {
            assert_close(value.metrics[*ours], case["metrics"][*theirs].as_f64().unwrap(), 1e-6, ours);
        }
    }
}

#[test]
fn label_smoothing_is_that_of_trl_in_float32() {
    let golden: Value = serde_json::from_str(FLOAT32).unwrap();
    for (name, smoothing) in [("cpo.sigmoid", 0.0), ("cpo.sigmoid_ls0.1", 0.1)] {
        let case = &golden["cases"][name];
        // CPO has no reference: one whose log-probs are 0 leaves the policy's.
        let view = |view, key: &str| {
            let policy = numbers(&case[key]);
            let reference = vec![0.0; policy.len()];
            summed(view, policy, reference)
        };
        let views = vec![view(View::Chosen, "chosen_in"), view(View::Rejected, "rejected_in")];
        let objective = build("dpo", &format!("beta = 0.1\nlabel_smoothing = {smoothing:?}"));
        let value = objective.evaluate(&ObjectiveBatch { views }).unwrap();
        assert_close(value.loss, case["loss_mean"].as_f64().unwrap(), 1e-6, name);
        assert_all_close(&value.gradients[0], &numbers(&case["grad_wrt_chosen_in"]), 1e-7, name);
        assert_all_close(&value.gradients[1], &numbers(&case["grad_wrt_rejected_in"]), 1e-7, name);
    }
}

#[test]
fn sft_is_an_earlier_run_of_trl_in_float32() {
    let golden: Value = serde_json::from_str(FLOAT32).unwrap();
    let answers: Vec<_> = golden["chosen_tokens"].as_array().unwrap().iter().map(numbers).collect();
    let losses = numbers(&golden["cases"]["dpo.sft"]["loss_per_example"]);
    for (answer, loss) in answers.iter().zip(losses) {
        let value = build("sft", "").evaluate(&tokens(std::slice::from_ref(answer))).unwrap();
        assert_close(value.loss, loss, 1e-6, "sft");
    }
}
