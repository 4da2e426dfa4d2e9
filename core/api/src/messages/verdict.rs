//! Replies of judges.

use serde::{Deserialize, Serialize};

use super::{MessageError, Number};
use crate::judge::{Verdict, Vote};

/// Reply to `judge`: a [`Verdict`]. What follows from the votes may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictMessage {
    /// Probability that `first` is better; default: the mean of the votes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_first: Option<Number>,
    /// Individual comparisons, one per presentation order; default none.
    #[serde(default)]
    pub votes: Vec<VoteMessage>,
    /// Whether no two votes prefer different responses; default: what the votes say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consistent: Option<bool>,
}

/// One comparison of a [`VerdictMessage`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoteMessage {
    /// Whether `first` was shown first.
    pub first_shown_first: bool,
    /// Probability that `first` is better, whatever the presentation order.
    pub p_first: Number,
}

impl From<&Verdict> for VerdictMessage {
    fn from(verdict: &Verdict) -> Self {
        let vote = |vote: &Vote| VoteMessage {
            first_shown_first: vote.first_shown_first,
            p_first: Number(vote.p_first),
        };
        Self {
            p_first: Some(Number(verdict.p_first)),
            votes: verdict.votes.iter().map(vote).collect(),
            consistent: Some(verdict.consistent),
        }
    }
}

impl TryFrom<VerdictMessage> for Verdict {
    type Error = MessageError;

    /// Does not check that probabilities are in [0, 1]; [`Verdict::check`] does.
    fn try_from(message: VerdictMessage) -> Result<Self, MessageError> {
        let VerdictMessage { p_first, votes, consistent } = message;
        let vote =
            |VoteMessage { first_shown_first, p_first }| Vote { first_shown_first, p_first: p_first.0 };
        let votes: Vec<Vote> = votes.into_iter().map(vote).collect();
        let derived = (!votes.is_empty()).then(|| Self::from_votes(votes.clone()));
        let derived = derived.as_ref();
        let Some(p_first) = p_first.map(|it| it.0).or(derived.map(|it| it.p_first)) else {
            return Err(MessageError::new("a verdict without `p_first` and without votes"));
        };
        let consistent = consistent.unwrap_or_else(|| derived.is_none_or(|it| it.consistent));
        Ok(Self { p_first, votes, consistent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_votes_may_be_left_out() {
        let votes = r#"[{"first_shown_first": true, "p_first": 0.75}, {"first_shown_first": false, "p_first": 0.25}]"#;
        let read = |text: &str| {
            Verdict::try_from(serde_json::from_str::<VerdictMessage>(text).expect("a message"))
        };
        let verdict = read(&format!(r#"{{"votes": {votes}}}"#)).expect("a verdict");
        assert_eq!((verdict.p_first, verdict.consistent, verdict.votes.len()), (0.5, false, 2));
        let said = read(&format!(r#"{{"votes": {votes}, "p_first": 0.9, "consistent": true}}"#));
        assert_eq!(said.map(|it| (it.p_first, it.consistent)), Ok((0.9, true)));
        assert!(read("{}").is_err());
    }

    #[test]
    fn votes_with_a_tie_are_consistent_on_either_side() {
        for p in [0.25, 0.75] {
            let votes = [0.5, p].map(|p| VoteMessage { first_shown_first: true, p_first: Number(p) });
            let message = VerdictMessage { p_first: None, votes: votes.to_vec(), consistent: None };
            assert!(Verdict::try_from(message).expect("a verdict").consistent, "{p}");
        }
    }

    #[test]
    fn numbers_that_json_lacks_cross_by_name_and_other_texts_are_refused() {
        for number in [f64::INFINITY, f64::NEG_INFINITY, 0.25, 3.0] {
            let text = serde_json::to_string(&Number(number)).expect("JSON");
            assert_eq!(serde_json::from_str::<Number>(&text).expect("a number"), Number(number), "{text}");
        }
        assert!(serde_json::from_str::<Number>("\"NaN\"").expect("a number").0.is_nan());
        let refused = serde_json::from_str::<Number>("\"0.5\"").expect_err("a text").to_string();
        assert!(refused.starts_with("invalid type: string \"0.5\", expected a number"), "{refused}");
    }
}
