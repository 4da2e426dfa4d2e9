//! The [`Judge`] trait: pairwise comparison of responses.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::choice::Choice;
use crate::error::ComponentError;
use crate::policy::FrozenPolicy;
use crate::response::Response;
use crate::retrospector::VisualContext;
use crate::video::VideoInput;

/// The input of one [`Judge`] call: two responses to the same instruction about the same video.
#[derive(Clone, Debug)]
pub struct JudgeCase {
    /// The video V.
    pub scene: VideoInput,
    /// The instruction x that both responses answer.
    pub instruction: String,
    /// The visual context c_t, textual evidence about the video; `None` in runs without a retrospector.
    pub context: Option<VisualContext>,
    /// Response y1.
    pub first: Response,
    /// Response y2.
    pub second: Response,
    /// Seed of this call's random draws.
    pub seed: u64,
}

impl JudgeCase {
    /// Returns the case with `first` and `second` exchanged, to ask in the other presentation order.
    #[must_use]
    pub fn swapped(&self) -> Self {
        let mut case = self.clone();
        std::mem::swap(&mut case.first, &mut case.second);
        case
    }
}

/// Presentation orders in which a judge compares the two responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Orders {
    /// Both orders; the probability is the mean. Cancels position bias at twice the cost.
    Both,
    /// Only the order of sampling. Half the cost, but position bias enters the preference pairs.
    Given,
}

impl Orders {
    /// Returns one entry per comparison: whether `first` is presented first.
    pub fn first_shown_first(self) -> &'static [bool] {
        match self {
            Self::Both => &[true, false],
            Self::Given => &[true],
        }
    }
}

/// The result of comparing two responses in one presentation order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// Presentation order: true if `first` was presented first.
    pub first_shown_first: bool,
    /// Probability that `first` is better, in [0, 1], independent of the presentation order.
    pub p_first: f64,
}

impl Vote {
    /// Returns the response that the vote prefers.
    pub fn choice(&self) -> Choice {
        Choice::of_probability(self.p_first)
    }
}

/// The result of one [`Judge`] call.
///
/// Build it with [`Verdict::of`] or [`Verdict::from_votes`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Probability that `first` is better, in [0, 1].
    pub p_first: f64,
    /// Individual comparisons, one per presentation order. Empty for a judge that does not depend on it.
    pub votes: Vec<Vote>,
    /// True if no two votes prefer different responses. False marks position bias.
    pub consistent: bool,
}

impl Verdict {
    /// Creates a verdict without votes, for a judge that does not depend on the presentation order. It counts as
    /// consistent.
    pub fn of(p_first: f64) -> Self {
        Self { p_first, votes: Vec::new(), consistent: true }
    }

    /// Creates a verdict from votes: `p_first` is their mean, and it is consistent if no two of them prefer different
    /// responses ([`Choice::consistent`]; a tie contradicts neither). Without votes it is a tie.
    pub fn from_votes(votes: Vec<Vote>) -> Self {
        let sum: f64 = votes.iter().map(|vote| vote.p_first).sum();
        let p_first = if votes.is_empty() { 0.5 } else { sum / votes.len() as f64 };
        let consistent = Choice::consistent(votes.iter().map(Vote::choice));
        Self { p_first, votes, consistent }
    }

    /// Returns the verdict for the [`swapped`](JudgeCase::swapped) case.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        let mirrored =
            |vote: &Vote| Vote { first_shown_first: !vote.first_shown_first, p_first: 1.0 - vote.p_first };
        let votes = self.votes.iter().map(mirrored).collect();
        Self { p_first: 1.0 - self.p_first, votes, consistent: self.consistent }
    }

    /// Checks that all probabilities are in [0, 1].
    ///
    /// # Errors
    /// [`ComponentError::BadInput`] with the first value that is not, NaN included.
    pub fn check(&self) -> Result<(), ComponentError> {
        let mut probabilities = self.votes.iter().map(|vote| vote.p_first).chain([self.p_first]);
        match probabilities.find(|p| !(0.0..=1.0).contains(p)) {
            Some(p) => {
                let text = format!("the judge's probability is {p}, not in [0, 1]");
                Err(ComponentError::bad_input(text))
            }
            None => Ok(()),
        }
    }

    /// Returns the preferred response, or a tie.
    pub fn choice(&self) -> Choice {
        Choice::of_probability(self.p_first)
    }

    /// Returns whether `first` is preferred; false for a tie.
    pub fn prefers_first(&self) -> bool {
        self.choice() == Choice::First
    }

    /// Returns the margin |`p_first` - 0.5|, in [0, 0.5].
    pub fn margin(&self) -> f64 {
        (self.p_first - 0.5).abs()
    }
}

/// Judges pairs of responses: p(y1 > y2 | V, x, c_t) (ISR-DPO, arXiv 2406.11280).
///
/// # Contract
/// - `p_first` is a finite number in [0, 1]; the loop rejects anything else.
/// - A judge whose output may depend on the presentation order compares in both orders and reports one vote for
///   each.
/// - Draws randomness from `case.seed` only.
/// - Uses the fields of [`JudgeCase`] and the policy only. A judge that reads reference answers or facts is an
///   oracle: its config has a key `oracle`, and it refuses to be built unless that key is true.
/// - Called concurrently.
///
/// # Errors
/// [`ComponentError::BadInput`] if there is no verdict on this case (the reply does not parse, the prompt
/// exceeds the context): the sample is quarantined.
///
/// # Example
/// A judge that prefers the shorter response, and neither of two that are equally long:
/// ```
/// use async_trait::async_trait;
/// use isr_api::{Choice, ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
///
/// struct Brevity;
///
/// #[async_trait]
/// impl Judge for Brevity {
///     async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
///         let [first, second] = [&case.first, &case.second].map(|it| it.text.chars().count() as f64);
///         Ok(Verdict::of(Choice::of_difference(second - first).p_first()))
///     }
/// }
/// ```
/// Do not return `p_first: 0.5` for a reply that could not be parsed: that hides the failure in the data.
/// Return [`ComponentError::bad_input`].
#[async_trait]
pub trait Judge: Send + Sync {
    /// Compares the two responses of one case.
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrored_verdict_speaks_of_the_same_answers_and_mirrors_back() {
        let vote = |first_shown_first, p_first| Vote { first_shown_first, p_first };
        let verdict = Verdict::from_votes(vec![vote(true, 0.75), vote(false, 0.25)]);
        let mirrored = verdict.mirrored();
        // What was shown first as `first` was shown first as `second`.
        assert_eq!(mirrored.votes, [vote(false, 0.25), vote(true, 0.75)]);
        assert_eq!((mirrored.p_first, mirrored.consistent), (0.5, false));
        assert_eq!(mirrored.mirrored(), verdict);
        assert_eq!(Verdict::of(1.0).mirrored(), Verdict::of(0.0));
    }

    #[test]
    fn ties_are_consistent_whichever_response_they_stand_beside() {
        let of = |ps: &[f64]| {
            let vote = |(at, &p_first): (usize, &f64)| Vote { first_shown_first: at % 2 == 0, p_first };
            Verdict::from_votes(ps.iter().enumerate().map(vote).collect())
        };
        for (ps, p_first, consistent, choice) in [
            (&[0.5, 0.75][..], 0.625, true, Choice::First),
            (&[0.5, 0.25], 0.375, true, Choice::Second),
            (&[0.5, 0.5], 0.5, true, Choice::Tie),
            (&[0.25, 0.75], 0.5, false, Choice::Tie),
            (&[], 0.5, true, Choice::Tie),
        ] {
            let verdict = of(ps);
            assert_eq!(
                (verdict.p_first, verdict.consistent, verdict.choice()),
                (p_first, consistent, choice)
            );
            // The mirrored votes give the mirrored verdict.
            let mirrored = Verdict::from_votes(verdict.mirrored().votes);
            assert_eq!((mirrored.p_first, mirrored.consistent), (1.0 - p_first, consistent), "{ps:?}");
        }
    }

    #[test]
    fn a_verdict_without_votes_is_consistent() {
        assert_eq!(Verdict::of(0.3), Verdict { p_first: 0.3, votes: vec![], consistent: true });
    }

    #[test]
    fn orders_are_asked_as_they_say() {
        assert_eq!(Orders::Both.first_shown_first(), [true, false]);
        assert_eq!(Orders::Given.first_shown_first(), [true]);
    }
}
