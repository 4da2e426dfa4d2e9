//! Position bias.

use isr_api::{Choice, ChoiceCounts, Verdict, Vote};
use serde::Serialize;

/// Position bias of a judge: the effect of presentation order on votes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Position {
    /// Number of verdicts with votes in both presentation orders.
    pub both_orders: usize,
    /// Share of `both_orders` whose votes do not contradict each other; null without any.
    pub consistent: Option<f64>,
    /// Number of votes that prefer a response.
    pub votes: usize,
    /// Share of `votes` for the response shown first: 0.5 without position bias if every pair is judged in both orders. Null
    /// without votes.
    pub first_shown: Option<f64>,
}

impl Position {
    pub(crate) fn of<'a>(verdicts: impl Iterator<Item = &'a Verdict> + Clone) -> Self {
        let two: Vec<_> = verdicts.clone().filter(|verdict| shows_both(verdict)).collect();
        let consistent =
            two.iter().filter(|verdict| Choice::consistent(verdict.votes.iter().map(Vote::choice))).count();
        let shown_first = |vote: &Vote| if vote.first_shown_first { Choice::First } else { Choice::Second };
        let votes = verdicts.flat_map(|verdict| &verdict.votes);
        let places: ChoiceCounts = votes.map(|vote| (vote.choice(), shown_first(vote))).collect();
        Self {
            both_orders: two.len(),
            consistent: share(consistent, two.len()),
            votes: places.n(),
            first_shown: places.agreement(),
        }
    }
}

fn shows_both(verdict: &Verdict) -> bool {
    let shown = |first| verdict.votes.iter().any(|vote| vote.first_shown_first == first);
    shown(true) && shown(false)
}

/// A share, where there is anything to share.
pub(crate) fn share(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(votes: &[(bool, f64)]) -> Verdict {
        let vote = |&(first_shown_first, p_first)| Vote { first_shown_first, p_first };
        Verdict::from_votes(votes.iter().map(vote).collect())
    }

    #[test]
    fn a_judge_that_takes_what_it_sees_first_is_never_consistent() {
        let verdicts = [verdict(&[(true, 0.9), (false, 0.2)]), verdict(&[(true, 0.6), (false, 0.4)])];
        let position = Position::of(verdicts.iter());
        assert_eq!((position.both_orders, position.consistent), (2, Some(0.0)));
        assert_eq!((position.votes, position.first_shown), (4, Some(1.0)));
    }

    #[test]
    fn a_judge_that_looks_at_the_answers_takes_each_place_half_of_the_time() {
        let verdicts = [verdict(&[(true, 0.9), (false, 0.8)]), verdict(&[(true, 0.1), (false, 0.3)])];
        let position = Position::of(verdicts.iter());
        assert_eq!((position.consistent, position.first_shown), (Some(1.0), Some(0.5)));
    }

    #[test]
    fn one_half_takes_no_side_and_one_order_tells_no_consistency() {
        let verdicts = [verdict(&[(true, 0.5), (false, 0.2)]), verdict(&[(true, 0.7)])];
        let position = Position::of(verdicts.iter());
        assert_eq!((position.both_orders, position.consistent), (1, Some(1.0)));
        assert_eq!((position.votes, position.first_shown), (2, Some(1.0)));
        let orderless = Position::of(std::iter::empty());
        assert_eq!((orderless.consistent, orderless.first_shown), (None, None));
    }
}
