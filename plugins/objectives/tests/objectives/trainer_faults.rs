//! Batches that no correct trainer hands over.

use isr_api::{ObjectiveBatch, View, ViewLogProbs};

use crate::config::build;

fn view(view: View) -> ViewLogProbs {
    ViewLogProbs { view, policy: vec![-1.0, -2.0], reference: vec![-1.5, -2.5], lengths: vec![1, 1] }
}

fn message(name: &str, views: Vec<ViewLogProbs>) -> String {
    build(name, "").evaluate(&ObjectiveBatch { views }).unwrap_err().to_string()
}

#[test]
fn a_missing_view_is_named() {
    assert!(message("dpo", vec![view(View::Chosen)]).contains("Rejected"));
}

#[test]
fn an_empty_batch_is_refused() {
    let empty = ViewLogProbs { view: View::Chosen, policy: vec![], reference: vec![], lengths: vec![] };
    assert!(message("sft", vec![empty]).contains("no pairs"));
}

#[test]
fn slices_that_disagree_are_named() {
    let short = ViewLogProbs { reference: vec![-1.0], ..view(View::Rejected) };
    let text = message("dpo", vec![view(View::Chosen), short]);
    assert_eq!(text, "Rejected: reference has 1 entries; 2 are expected");
    let long = ViewLogProbs { lengths: vec![1, 2], ..view(View::Chosen) };
    assert_eq!(message("sft", vec![long]), "Chosen: policy has 2 entries; 3 are expected");
}

#[test]
fn numbers_that_are_no_log_probs_are_refused_before_they_spread() {
    for value in [f64::NAN, f64::NEG_INFINITY, f64::MAX] {
        let broken = ViewLogProbs { policy: vec![-1.0, value], ..view(View::Chosen) };
        let text = message("dpo", vec![broken, view(View::Rejected)]);
        assert!(text.starts_with("Chosen: policy[1] is"), "{text}");
    }
}

#[test]
fn an_answer_without_tokens_has_no_mean() {
    let none = ViewLogProbs { lengths: vec![2, 0], ..view(View::Chosen) };
    assert!(message("sft", vec![none]).contains("pair 1 has no tokens"));
}

#[test]
fn views_may_come_in_any_order_and_an_extra_one_gets_no_gradient() {
    let objective = build("dpo", "");
    let ordered =
        objective.evaluate(&ObjectiveBatch { views: vec![view(View::Chosen), view(View::Rejected)] });
    let turned =
        objective.evaluate(&ObjectiveBatch { views: vec![view(View::Rejected), view(View::Chosen)] });
    let (ordered, mut turned) = (ordered.unwrap(), turned.unwrap());
    turned.gradients.reverse();
    assert_eq!(ordered, turned);
    let extra = ObjectiveBatch { views: vec![view(View::Chosen), view(View::Rejected)] };
    assert_eq!(build("sft", "").evaluate(&extra).unwrap().gradients[1], [0.0, 0.0]);
}

#[test]
fn a_mix_refuses_what_its_parts_would() {
    let broken = |views| build("mix", "").evaluate(&ObjectiveBatch { views }).unwrap_err().to_string();
    let missing = broken(vec![view(View::Chosen)]);
    assert!(missing.contains("Rejected"), "{missing}");
    let long = ViewLogProbs { lengths: vec![1, 2], ..view(View::Rejected) };
    let text = broken(vec![view(View::Chosen), long]);
    assert_eq!(text, "Rejected: policy has 2 entries; 3 are expected");
    let without = ViewLogProbs { reference: vec![], ..view(View::Rejected) };
    let text = broken(vec![view(View::Chosen), without]);
    assert!(text.starts_with("Rejected: reference has"), "{text}");
}
