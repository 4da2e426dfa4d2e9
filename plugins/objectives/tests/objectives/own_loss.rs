//! A loss of another crate, as `docs/objectives.md` says.

use isr_api::{Granularity, ObjectiveBatch, PreferenceObjective, View, ViewLogProbs};
use isr_objectives::{Dual64, DualNum, LossSpec, Pair, PairLoss, PairObjective};

/// `log(1 + h^2)`.
#[derive(Debug, Clone)]
struct Cauchy {
    ld_alpha: Option<f64>,
}

impl PairLoss for Cauchy {
    fn loss(&self, pair: &Pair) -> Dual64 {
        pair.margin().powi(2).ln_1p()
    }

    fn spec(&self) -> LossSpec {
        LossSpec { beta: 1.0, ld_alpha: self.ld_alpha, ..LossSpec::default() }
    }
}

fn view(view: View, policy: Vec<f64>, reference: Vec<f64>, length: usize) -> ViewLogProbs {
    ViewLogProbs { view, policy, reference, lengths: vec![length] }
}

#[test]
fn a_loss_needs_one_function() {
    let objective = PairObjective(Cauchy { ld_alpha: None });
    let chosen = view(View::Chosen, vec![-3.0], vec![-5.0], 3);
    let rejected = view(View::Rejected, vec![-4.0], vec![-3.5], 1);
    let value = objective.evaluate(&ObjectiveBatch { views: vec![chosen, rejected] }).unwrap();
    let h = 2.5_f64;
    assert!((value.loss - (1.0 + h * h).ln()).abs() < 1e-15);
    assert!((value.gradients[0][0] - 2.0 * h / (1.0 + h * h)).abs() < 1e-15);
    assert_eq!(value.gradients[1][0], -value.gradients[0][0]);
}

#[test]
fn tokens_past_the_shorter_answer_weigh_less() {
    let objective = PairObjective(Cauchy { ld_alpha: Some(0.25) });
    assert_eq!(objective.requirements().granularity, Granularity::PerToken);
    let chosen = view(View::Chosen, vec![-1.0, -0.5, -2.0], vec![-2.0, -1.5, -4.0], 3);
    let rejected = view(View::Rejected, vec![-4.0], vec![-3.5], 1);
    let value = objective.evaluate(&ObjectiveBatch { views: vec![chosen, rejected] }).unwrap();
    let h = 1.0 + 0.25 * (1.0 + 2.0) + 0.5_f64;
    let slope = 2.0 * h / (1.0 + h * h);
    assert!((value.loss - (1.0 + h * h).ln()).abs() < 1e-15);
    for (got, weight) in value.gradients[0].iter().zip([1.0, 0.25, 0.25]) {
        assert!((got - slope * weight).abs() < 1e-15);
    }
    assert!((value.gradients[1][0] + slope).abs() < 1e-15);
}
