//! Choices between two responses: what is a tie, when choices are consistent, and how two raters agree.
//!
//! Judges, selections, summaries and audits all take these definitions.

use serde::{Deserialize, Serialize};

/// A preference between two responses: of a judge, of a human annotator, or by ground truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The first response of the comparison is better.
    First,
    /// The second response of the comparison is better.
    Second,
    /// Neither is better.
    Tie,
}

/// Distance from one half within which a probability is a tie: above the rounding of means in float64, below the
/// spacing of probabilities that come from float32 scores.
const TIE: f64 = 1e-12;

impl Choice {
    /// Converts a probability that the first response is better. One half is a tie, up to rounding (1e-12), and so is
    /// NaN.
    pub fn of_probability(p_first: f64) -> Self {
        let difference = p_first - 0.5;
        if difference.abs() <= TIE { Self::Tie } else { Self::of_difference(difference) }
    }

    /// Converts a difference of scores, first minus second; 0 and NaN are ties.
    pub fn of_difference(difference: f64) -> Self {
        if difference > 0.0 {
            Self::First
        } else if difference < 0.0 {
            Self::Second
        } else {
            Self::Tie
        }
    }

    /// Returns the probability that the first response is better: 1, 0, or 0.5 for a tie.
    pub fn p_first(self) -> f64 {
        match self {
            Self::First => 1.0,
            Self::Second => 0.0,
            Self::Tie => 0.5,
        }
    }

    /// Returns whether no two of the choices are for different responses. A tie contradicts neither.
    pub fn consistent(choices: impl IntoIterator<Item = Self>) -> bool {
        let (mut first, mut second) = (false, false);
        for choice in choices {
            first |= choice == Self::First;
            second |= choice == Self::Second;
        }
        !(first && second)
    }
}

/// Choices of two raters on the same pairs, counted.
///
/// The second rater may be any reference: the ground truth, the longer response, the response shown first. Pairs on
/// which either has a tie are counted apart and are in no share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChoiceCounts {
    /// Number of pairs by the choices `[one rater][the other]`; index 0 is the first response, 1 the second.
    pub decided: [[usize; 2]; 2],
    /// Number of pairs on which either rater has a tie.
    pub ties: usize,
}

impl ChoiceCounts {
    /// Counts one pair.
    pub fn add(&mut self, one: Choice, other: Choice) {
        let index = |choice| usize::from(choice == Choice::Second);
        if one == Choice::Tie || other == Choice::Tie {
            self.ties += 1;
        } else {
            self.decided[index(one)][index(other)] += 1;
        }
    }

    /// Returns the number of pairs that both raters decided.
    pub fn n(&self) -> usize {
        self.decided.as_flattened().iter().sum()
    }

    /// Returns the number of pairs on which both chose the same response.
    pub fn agreed(&self) -> usize {
        self.decided[0][0] + self.decided[1][1]
    }

    /// Returns the observed agreement, `agreed / n`; `None` without a decided pair.
    pub fn agreement(&self) -> Option<f64> {
        (self.n() > 0).then(|| self.agreed() as f64 / self.n() as f64)
    }
}

impl FromIterator<(Choice, Choice)> for ChoiceCounts {
    fn from_iter<T: IntoIterator<Item = (Choice, Choice)>>(pairs: T) -> Self {
        let mut counts = Self::default();
        pairs.into_iter().for_each(|(one, other)| counts.add(one, other));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::Choice::{First, Second, Tie};
    use super::*;

    #[test]
    fn one_half_is_a_tie_also_after_rounding() {
        assert_eq!(Choice::of_probability(0.5), Tie);
        // Weighted means of ties.
        assert_eq!(Choice::of_probability((0.7 * 0.5 + 0.1 * 0.5) / (0.7 + 0.1)), Tie);
        assert_eq!([0.5 + 1e-9, 0.5 - 1e-9].map(Choice::of_probability), [First, Second]);
        assert_eq!(Choice::of_probability(f64::NAN), Tie);
    }

    #[test]
    fn a_tie_contradicts_no_choice() {
        for choices in [&[Tie, First][..], &[Tie, Second], &[Tie, Tie], &[First, First], &[]] {
            assert!(Choice::consistent(choices.iter().copied()), "{choices:?}");
        }
        assert!(!Choice::consistent([First, Tie, Second]));
    }

    #[test]
    fn ties_of_either_rater_are_counted_apart() {
        let counts: ChoiceCounts =
            [(First, First), (Tie, First), (Second, Tie), (First, Second)].into_iter().collect();
        assert_eq!((counts.n(), counts.agreed(), counts.ties), (2, 1, 2));
        assert_eq!(counts.agreement(), Some(0.5));
        assert_eq!(ChoiceCounts::default().agreement(), None);
    }
}
