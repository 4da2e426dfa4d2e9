//! Drift between the log-probs that were recorded while sampling and those that training computes.

use std::collections::BTreeMap;

/// Difference of log-probs of the same tokens under the same weights, computed in batches of other shapes. In float32 it
/// is rounding; in bfloat16 it is noise in the log-ratios that preference objectives learn from.
#[derive(Default)]
pub(super) struct Drift {
    tokens: usize,
    answers: usize,
    /// Sums of absolute differences, by token and by answer.
    by_token: f64,
    by_answer: f64,
    /// Largest absolute difference of a token.
    largest: f64,
}

impl Drift {
    /// Adds the tokens of one answer.
    pub(super) fn add(&mut self, policy: &[f64], reference: &[f64]) {
        let differences = || policy.iter().zip(reference).map(|(policy, reference)| policy - reference);
        self.tokens += policy.len();
        self.answers += 1;
        self.by_token += differences().map(f64::abs).sum::<f64>();
        self.by_answer += differences().sum::<f64>().abs();
        self.largest = differences().map(f64::abs).fold(self.largest, f64::max);
    }

    /// Adds the drift of other answers.
    pub(super) fn merge(&mut self, other: &Self) {
        self.tokens += other.tokens;
        self.answers += other.answers;
        self.by_token += other.by_token;
        self.by_answer += other.by_answer;
        self.largest = self.largest.max(other.largest);
    }

    /// Returns counts and the bits of the other numbers, for [`from_bits`](Self::from_bits).
    pub(super) fn to_bits(&self) -> [u64; 5] {
        let [by_token, by_answer, largest] =
            [self.by_token, self.by_answer, self.largest].map(f64::to_bits);
        [self.tokens as u64, self.answers as u64, by_token, by_answer, largest]
    }

    pub(super) fn from_bits([tokens, answers, by_token, by_answer, largest]: [u64; 5]) -> Self {
        let [by_token, by_answer, largest] = [by_token, by_answer, largest].map(f64::from_bits);
        Self { tokens: tokens as usize, answers: answers as usize, by_token, by_answer, largest }
    }

    /// Returns the drift as metrics of a step; see `isr_api::StepReport`.
    pub(super) fn metrics(self) -> BTreeMap<String, f64> {
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

    #[test]
    fn drift_is_measured_by_token_and_by_answer() {
        let mut drift = Drift::default();
        drift.add(&[-1.0, -2.0], &[-1.5, -1.75]);
        drift.add(&[-3.0], &[-3.0]);
        let metrics = drift.metrics();
        assert_eq!(metrics["sampling_score_drift"], 0.25);
        assert_eq!(metrics["sampling_score_drift_max"], 0.5);
        assert_eq!(metrics["sampling_score_drift_sum"], 0.125);
    }
}
