//! Losses for tests, with hand-written derivatives.

use isr_api::{ComponentError, ObjectiveBatch, ObjectiveValue, PreferenceObjective, Requirements, View};

/// A loss of log-ratios.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Loss {
    Dpo,
    /// Reference point: the mean log-ratio of the batch's mismatched answers.
    Kto,
    /// Differences of sorted log-ratios.
    Aot,
    /// DPO, and the chosen answer with the video against the same with a corrupted one.
    Mdpo,
}

impl Loss {
    pub(crate) const ALL: [Self; 4] = [Self::Dpo, Self::Kto, Self::Aot, Self::Mdpo];
}

/// A loss, evaluated on the whole batch or (wrongly, of those that compare across it) on parts.
pub(crate) struct Objective {
    pub(crate) loss: Loss,
    pub(crate) across_batch: bool,
}

impl Objective {
    pub(crate) fn new(loss: Loss) -> Self {
        Self { loss, across_batch: matches!(loss, Loss::Kto | Loss::Aot) }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn ratios(batch: &ObjectiveBatch, view: usize) -> Vec<f64> {
    let view = &batch.views[view];
    view.policy.iter().zip(&view.reference).map(|(policy, reference)| policy - reference).collect()
}

/// Indices by rising values.
fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order
}

impl PreferenceObjective for Objective {
    fn requirements(&self) -> Requirements {
        let mut views = vec![View::Chosen, View::Rejected];
        match self.loss {
            Loss::Kto => views.push(View::Mismatched),
            Loss::Mdpo => views.push(View::ChosenCorrupted),
            Loss::Dpo | Loss::Aot => {}
        }
        Requirements { across_batch: self.across_batch, ..Requirements::new(views).with_reference() }
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        batch.check(&self.requirements()).map_err(ComponentError::failed)?;
        let pairs = batch.pairs();
        let all: Vec<Vec<f64>> = (0..batch.views.len()).map(|view| ratios(batch, view)).collect();
        let mut value = ObjectiveValue::new(0.0, vec![vec![0.0; pairs]; all.len()]);
        // Adds -log sigmoid(0.1 (a - b)) of two answers, each a view and a pair.
        let mut prefer = |(better, a): (usize, usize), (worse, b): (usize, usize)| {
            let inner = sigmoid(0.1 * (all[better][a] - all[worse][b]));
            value.loss -= inner.ln() / pairs as f64;
            let slope = 0.1 * (1.0 - inner) / pairs as f64;
            value.gradients[better][a] -= slope;
            value.gradients[worse][b] += slope;
        };
        match self.loss {
            Loss::Dpo => (0..pairs).for_each(|pair| prefer((0, pair), (1, pair))),
            Loss::Mdpo => {
                for pair in 0..pairs {
                    prefer((0, pair), (1, pair));
                    prefer((0, pair), (2, pair));
                }
            }
            Loss::Aot => {
                let sorted = order(&all[0]).into_iter().zip(order(&all[1]));
                sorted.for_each(|(one, other)| prefer((0, one), (1, other)));
            }
            Loss::Kto => {
                let point = (all[2].iter().sum::<f64>() / pairs as f64).max(0.0);
                for (view, sign) in [(0, 1.0), (1, -1.0)] {
                    for (pair, ratio) in all[view].iter().enumerate() {
                        let inner = sigmoid(0.1 * sign * (ratio - point));
                        value.loss += (1.0 - inner) / pairs as f64;
                        value.gradients[view][pair] -= 0.1 * sign * inner * (1.0 - inner) / pairs as f64;
                    }
                }
                value = value.with_metric("kl", point);
            }
        }
        let right = all[0].iter().zip(&all[1]).filter(|(one, other)| one > other).count();
        Ok(value.with_metric("accuracy", right as f64 / pairs as f64))
    }
}

/// DPO that fails on a batch of so many pairs.
pub(crate) struct Fragile {
    pub(crate) pairs: usize,
}

impl PreferenceObjective for Fragile {
    fn requirements(&self) -> Requirements {
        Objective::new(Loss::Dpo).requirements()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        match batch.pairs() == self.pairs {
            true => Err(ComponentError::failed("broken")),
            false => Objective::new(Loss::Dpo).evaluate(batch),
        }
    }
}
