//! Gradients from dual numbers against closed forms, and losses against values worked out by hand.

use isr_api::{ObjectiveBatch, View, ViewLogProbs};

use crate::config::build;

/// One pair: log-probs under policy and reference, and tokens, of the chosen and the rejected answer.
fn pair(chosen: (f64, f64, usize), rejected: (f64, f64, usize), reference: bool) -> ObjectiveBatch {
    let view = |view, (policy, under_reference, length): (f64, f64, usize)| ViewLogProbs {
        view,
        policy: vec![policy],
        reference: if reference { vec![under_reference] } else { Vec::new() },
        lengths: vec![length],
    };
    ObjectiveBatch { views: vec![view(View::Chosen, chosen), view(View::Rejected, rejected)] }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn assert_close(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-13 * expected.abs().max(1.0), "{got}, expected {expected}");
}

#[test]
fn the_gradient_of_dpo_is_its_closed_form() {
    for h in [-30.0, -2.0, -0.1, 0.0, 0.7, 12.0] {
        for (beta, e) in [(0.1, 0.0), (0.5, 0.1), (2.0, 0.4)] {
            let objective = build("dpo", &format!("beta = {beta:?}\nlabel_smoothing = {e:?}"));
            let value = objective.evaluate(&pair((-20.0 + h, -20.0, 3), (-9.0, -9.0, 2), true)).unwrap();
            let slope = beta * (e * sigmoid(beta * h) - (1.0 - e) * sigmoid(-beta * h));
            assert_close(value.gradients[0][0], slope);
            assert_close(value.gradients[1][0], -slope);
        }
    }
}

#[test]
fn the_gradient_of_ipo_is_its_closed_form() {
    let value = build("ipo", "beta = 0.2").evaluate(&pair((-6.0, -7.0, 4), (-5.0, -4.0, 2), true)).unwrap();
    let distance = 1.0 / 4.0 - -1.0 / 2.0 - 2.5;
    assert_close(value.loss, distance * distance);
    assert_close(value.gradients[0][0], 2.0 * distance / 4.0);
    assert_close(value.gradients[1][0], -2.0 * distance / 2.0);
}

#[test]
fn r_dpo_adds_the_length_difference_to_the_margin() {
    let batch = pair((-6.0, -7.0, 4), (-5.0, -4.0, 12), true);
    let value = build("rdpo", "beta = 0.5\nlength_alpha = 0.1").evaluate(&batch).unwrap();
    let margin = 0.5 * 2.0 + 0.1 * (4.0 - 12.0);
    assert_close(value.loss, -sigmoid(margin).ln());
    assert_close(value.gradients[0][0], -0.5 * sigmoid(-margin));
}

#[test]
fn rpo_adds_the_likelihood_a_token() {
    let batch = pair((-6.0, -7.0, 4), (-5.0, -4.0, 2), true);
    let value = build("rpo", "beta = 0.5\nrpo_alpha = 0.3").evaluate(&batch).unwrap();
    assert_close(value.loss, -sigmoid(1.0).ln() + 0.3 * 6.0 / 4.0);
    assert_close(value.gradients[0][0], -0.5 * sigmoid(-1.0) - 0.3 / 4.0);
    assert_close(value.gradients[1][0], 0.5 * sigmoid(-1.0));
}

#[test]
fn dpop_punishes_a_chosen_answer_below_its_reference_only() {
    let objective = build("dpop", "beta = 0.5\ndpop_lambda = 3.0");
    let below = objective.evaluate(&pair((-7.5, -7.0, 4), (-5.0, -4.0, 2), true)).unwrap();
    let margin = 0.5 * (0.5 - 3.0 * 0.5);
    assert_close(below.loss, -sigmoid(margin).ln());
    assert_close(below.gradients[0][0], -0.5 * 4.0 * sigmoid(-margin));
    let above = objective.evaluate(&pair((-6.5, -7.0, 4), (-5.0, -4.0, 2), true)).unwrap();
    assert_close(above.loss, -sigmoid(0.5 * 1.5).ln());
}

#[test]
fn the_anchor_looks_at_the_chosen_answer_only() {
    let batch = pair((-6.0, -7.0, 4), (-5.0, -4.0, 2), true);
    let value = build("anchor", "beta = 0.5\nanchor = 0.2").evaluate(&batch).unwrap();
    assert_close(value.loss, -sigmoid(0.5 - 0.2).ln());
    assert_eq!(value.gradients[1], [0.0]);
}

#[test]
fn cpo_adds_the_likelihood_a_token() {
    let batch = pair((-6.0, 0.0, 4), (-5.0, 0.0, 2), false);
    let value = build("cpo", "beta = 0.5\ncpo_alpha = 2.0").evaluate(&batch).unwrap();
    assert_close(value.loss, -sigmoid(-0.5).ln() + 2.0 * 6.0 / 4.0);
    assert_close(value.gradients[0][0], -0.5 * sigmoid(0.5) - 2.0 / 4.0);
}

#[test]
fn wpo_weighs_the_gradient_and_gives_the_weight_none() {
    let batch = pair((-6.0, -7.0, 4), (-5.0, -4.0, 2), true);
    let (plain, weighed) = (build("dpo", ""), build("dpo", "wpo = true"));
    let (plain, weighed) = (plain.evaluate(&batch).unwrap(), weighed.evaluate(&batch).unwrap());
    let weight = (-6.0_f64 / 4.0 - 5.0 / 2.0).exp();
    assert_close(weighed.loss, plain.loss * weight);
    assert_close(weighed.gradients[0][0], plain.gradients[0][0] * weight);
    assert_close(weighed.gradients[1][0], plain.gradients[1][0] * weight);
}
