//! The fourth trait: says which of two answers is better.

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ComponentError;
use crate::policy::FrozenPolicy;
use crate::response::Response;
use crate::retrospector::VisualContext;
use crate::video::VideoInput;

/// What a judge is asked: which answer to the instruction is better, given video and context.
#[derive(Clone, Debug)]
pub struct JudgeCase {
    /// The video.
    pub scene: VideoInput,
    /// What both responses answer.
    pub instruction: String,
    /// c_t, the evidence; `None` in runs without a retrospector.
    pub context: Option<VisualContext>,
    /// One answer.
    pub first: Response,
    /// The other answer.
    pub second: Response,
    /// Seed for every random draw of this case.
    pub seed: u64,
}

impl JudgeCase {
    /// The same question with the answers in each other's place.
    #[must_use]
    pub fn swapped(&self) -> Self {
        let mut case = self.clone();
        std::mem::swap(&mut case.first, &mut case.second);
        case
    }
}

/// In which order the two answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Orders {
    /// Once each way round; the probability is the mean.
    Both,
    /// Only as sampled: half the cost, and a position bias goes into the pairs.
    Given,
}

impl Orders {
    /// Whether `first` is shown first, for each time that a judge asks.
    pub fn first_shown_first(self) -> &'static [bool] {
        match self {
            Self::Both => &[true, false],
            Self::Given => &[true],
        }
    }
}

/// One look at the two answers, in one order of showing them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vote {
    /// True where `first` was shown first.
    pub first_shown_first: bool,
    /// Probability that `first` is better, whatever the order of showing.
    pub p_first: f64,
}

/// A judge's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Probability that `first` is better, in [0, 1].
    pub p_first: f64,
    /// The looks that it was made from; empty for a judge that shows no order.
    pub votes: Vec<Vote>,
    /// True where all votes prefer the same answer.
    pub consistent: bool,
}

impl Verdict {
    /// Averages votes; consistent where all lie on the same side of one half.
    pub fn from_votes(votes: Vec<Vote>) -> Self {
        let p_first = votes.iter().map(|vote| vote.p_first).sum::<f64>() / votes.len().max(1) as f64;
        let prefers_first = |vote: &Vote| vote.p_first > 0.5;
        let consistent = votes.iter().all(prefers_first) || !votes.iter().any(prefers_first);
        Self { p_first, votes, consistent }
    }

    /// The verdict on the same answers in each other's place.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        let mirrored =
            |vote: &Vote| Vote { first_shown_first: !vote.first_shown_first, p_first: 1.0 - vote.p_first };
        let votes = self.votes.iter().map(mirrored).collect();
        Self { p_first: 1.0 - self.p_first, votes, consistent: self.consistent }
    }

    /// Whether all probabilities are such.
    ///
    /// # Errors
    /// [`ComponentError::BadInput`] names the first that is not in [0, 1].
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

    /// True where `first` is preferred.
    pub fn prefers_first(&self) -> bool {
        self.p_first > 0.5
    }

    /// Distance of the probability from one half, in [0, 0.5].
    pub fn margin(&self) -> f64 {
        (self.p_first - 0.5).abs()
    }
}

/// Judges pairs of answers: p(y1 > y2 | V, x, c_t) (arXiv 2406.11280).
///
/// # Contract
/// - `p_first` is a finite number in [0, 1]; the loop refuses anything else.
/// - A judge whose answer may depend on the order of showing shows both orders and reports a vote
///   for each.
/// - Draws randomness from `case.seed` alone.
/// - Sees what a [`JudgeCase`] holds and what the policy says; never a reference answer, but for an oracle
///   ([`isr_config::is_oracle`]).
/// - Safe to call concurrently.
///
/// # Errors
/// [`ComponentError::BadInput`] where no verdict can be had for this case (the reply does not parse,
/// the prompt does not fit): the sample is quarantined, never guessed.
///
/// # Example
/// A judge that prefers the shorter answer:
/// ```
/// use async_trait::async_trait;
/// use crate::{ComponentError, FrozenPolicy, Judge, JudgeCase, Verdict};
///
/// struct Brevity;
///
/// #[async_trait]
/// impl Judge for Brevity {
///     async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
///         let shorter = case.first.text.len() < case.second.text.len();
///         let p_first = if shorter { 1.0 } else { 0.0 };
///         Ok(Verdict { p_first, votes: Vec::new(), consistent: true })
///     }
/// }
/// ```
/// Wrong: returning `p_first: 0.5` for a reply that could not be understood. That hides the failure
/// in the data; return [`ComponentError::bad_input`] instead.
#[async_trait]
pub trait Judge: Send + Sync {
    /// Judges one case.
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
        assert_eq!(Verdict { p_first: 1.0, votes: vec![], consistent: true }.mirrored().p_first, 0.0);
    }

    #[test]
    fn orders_are_asked_as_they_say() {
        assert_eq!(Orders::Both.first_shown_first(), [true, false]);
        assert_eq!(Orders::Given.first_shown_first(), [true]);
    }
}
