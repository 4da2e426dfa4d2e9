//! Arithmetic between token log-probs and objectives, the same for every trainer.

use std::collections::BTreeMap;

use crate::objective::{Granularity, Requirements, View, ViewLogProbs};
use crate::policy::Target;

impl Target {
    /// Returns the reference log-probs of a completion of `tokens` tokens; none unless they are required.
    ///
    /// # Errors
    /// A message with the numbers found and expected.
    pub fn required_reference(&self, tokens: usize, needs: &Requirements) -> Result<Vec<f64>, String> {
        if !needs.reference {
            return Ok(Vec::new());
        }
        match &self.reference {
            Some(reference) if reference.len() == tokens => {
                Ok(reference.iter().map(|&value| f64::from(value)).collect())
            }
            Some(reference) => {
                let found = reference.len();
                Err(format!("an answer of {tokens} tokens has {found} reference log-probs"))
            }
            None => Err("the objective needs the reference's log-probs".to_owned()),
        }
    }
}

impl ViewLogProbs {
    /// Arranges the log-probs of a view's tokens, completion by completion, as an objective requires them. `reference`
    /// is laid out as `policy`, and is not read unless it is required.
    pub fn of_tokens(
        view: View,
        policy: &[f64],
        reference: &[f64],
        lengths: Vec<usize>,
        needs: &Requirements,
    ) -> Self {
        let arranged = |tokens: &[f64]| match needs.granularity {
            Granularity::PerToken => tokens.to_vec(),
            Granularity::Summed => {
                let mut rest = tokens;
                let sum = |&length: &usize| {
                    let (here, behind) = rest.split_at(length.min(rest.len()));
                    rest = behind;
                    here.iter().sum()
                };
                lengths.iter().map(sum).collect()
            }
        };
        let policy = arranged(policy);
        let reference = if needs.reference { arranged(reference) } else { Vec::new() };
        Self { view, policy, reference, lengths }
    }
}

impl Requirements {
    /// Expands an objective's gradients to the loss's derivative by the log-prob of each token: view by view, in a view
    /// completion by completion. `lengths` has the tokens of each completion, by view.
    ///
    /// # Errors
    /// A gradient of another size, or with numbers that are not finite.
    pub fn token_gradients(
        &self,
        lengths: &[Vec<usize>],
        gradients: &[Vec<f64>],
    ) -> Result<Vec<f64>, String> {
        if gradients.len() != self.views.len() || lengths.len() != self.views.len() {
            let (found, views) = (gradients.len(), self.views.len());
            return Err(format!("the objective returned {found} gradients for {views} views"));
        }
        let mut all = Vec::new();
        for ((view, lengths), gradient) in self.views.iter().zip(lengths).zip(gradients) {
            let expected = match self.granularity {
                Granularity::Summed => lengths.len(),
                Granularity::PerToken => lengths.iter().sum(),
            };
            if gradient.len() != expected || !gradient.iter().all(|value| value.is_finite()) {
                return Err(format!(
                    "the objective's gradient by {view:?} has {} numbers (expected {expected}), or one that is not \
                     finite",
                    gradient.len()
                ));
            }
            match self.granularity {
                Granularity::PerToken => all.extend(gradient),
                // The derivative of a sum by each of its terms is 1.
                Granularity::Summed => all.extend(
                    lengths
                        .iter()
                        .zip(gradient)
                        .flat_map(|(&length, value)| std::iter::repeat_n(*value, length)),
                ),
            }
        }
        Ok(all)
    }
}

/// Drift between the log-probs that were recorded while sampling and those that training computes, of the same tokens
/// under the same weights.
///
/// They differ where they were computed in batches of other shapes. In float32 that is rounding; in bfloat16 it is noise
/// in the log-ratios that preference objectives learn from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScoreDrift {
    tokens: usize,
    answers: usize,
    /// Sums of absolute differences, by token and by answer.
    by_token: f64,
    by_answer: f64,
    /// Largest absolute difference of a token.
    largest: f64,
}

impl ScoreDrift {
    /// Adds the tokens of one answer.
    pub fn add(&mut self, policy: &[f64], reference: &[f64]) {
        let differences = || policy.iter().zip(reference).map(|(policy, reference)| policy - reference);
        self.tokens += policy.len();
        self.answers += 1;
        self.by_token += differences().map(f64::abs).sum::<f64>();
        self.by_answer += differences().sum::<f64>().abs();
        self.largest = differences().map(f64::abs).fold(self.largest, f64::max);
    }

    /// Adds the drift of other answers.
    pub fn merge(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.answers += other.answers;
        self.by_token += other.by_token;
        self.by_answer += other.by_answer;
        self.largest = self.largest.max(other.largest);
    }

    /// Returns counts and the bits of the other numbers, for [`from_bits`](Self::from_bits).
    pub fn to_bits(&self) -> [u64; 5] {
        let [by_token, by_answer, largest] =
            [self.by_token, self.by_answer, self.largest].map(f64::to_bits);
        [self.tokens as u64, self.answers as u64, by_token, by_answer, largest]
    }

    /// Restores what [`to_bits`](Self::to_bits) returned.
    pub fn from_bits([tokens, answers, by_token, by_answer, largest]: [u64; 5]) -> Self {
        let [by_token, by_answer, largest] = [by_token, by_answer, largest].map(f64::from_bits);
        Self { tokens: tokens as usize, answers: answers as usize, by_token, by_answer, largest }
    }

    /// Returns the drift as metrics of a step; see [`StepReport::metrics`](crate::StepReport::metrics).
    pub fn metrics(self) -> BTreeMap<String, f64> {
        let metrics = [
            ("sampling_score_drift", self.by_token / self.tokens.max(1) as f64),
            ("sampling_score_drift_max", self.largest),
            ("sampling_score_drift_sum", self.by_answer / self.answers.max(1) as f64),
        ];
        metrics.map(|(name, value)| (name.to_owned(), value)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Continuation;

    #[test]
    fn drift_is_measured_by_token_and_by_answer() {
        let mut drift = ScoreDrift::default();
        drift.add(&[-1.0, -2.0], &[-1.5, -1.75]);
        drift.add(&[-3.0], &[-3.0]);
        assert_eq!(ScoreDrift::from_bits(drift.to_bits()), drift);
        let metrics = drift.metrics();
        assert_eq!(metrics["sampling_score_drift"], 0.25);
        assert_eq!(metrics["sampling_score_drift_max"], 0.5);
        assert_eq!(metrics["sampling_score_drift_sum"], 0.125);
    }

    #[test]
    fn token_log_probs_are_summed_and_gradients_expanded() {
        let needs = Requirements::new([View::Chosen, View::Rejected]).with_reference();
        let tokens = [-1.0, -2.0, -4.0];
        let view = ViewLogProbs::of_tokens(View::Chosen, &tokens, &[0.0; 3], vec![2, 1], &needs);
        assert_eq!((view.policy, view.reference), (vec![-3.0, -4.0], vec![0.0, 0.0]));
        let lengths = [vec![2, 1], vec![1, 0]];
        let gradients = needs.token_gradients(&lengths, &[vec![0.5, 0.25], vec![-1.0, 2.0]]);
        assert_eq!(gradients, Ok(vec![0.5, 0.5, 0.25, -1.0]));
        let by_token = Requirements::new([View::Chosen]).per_token();
        let view = ViewLogProbs::of_tokens(View::Chosen, &tokens, &[], vec![2, 1], &by_token);
        assert_eq!((view.policy, view.reference), (tokens.to_vec(), vec![]));
        for gradients in [vec![], vec![vec![1.0, 2.0]], vec![vec![1.0, f64::NAN, 0.0]]] {
            assert!(by_token.token_gradients(&[vec![2, 1]], &gradients).is_err(), "{gradients:?}");
        }
    }

    #[test]
    fn a_required_reference_has_a_number_a_token() {
        let target = |reference| Target { continuation: Continuation::Tokens(vec![1, 2]), reference };
        let needs = Requirements::new([View::Chosen]).with_reference();
        assert_eq!(target(Some(vec![-1.0, -2.0])).required_reference(2, &needs), Ok(vec![-1.0, -2.0]));
        assert!(target(Some(vec![-1.0])).required_reference(2, &needs).unwrap_err().contains("has 1"));
        assert!(target(None).required_reference(2, &needs).unwrap_err().contains("needs"));
        assert_eq!(target(None).required_reference(2, &Requirements::new([View::Chosen])), Ok(vec![]));
    }
}
