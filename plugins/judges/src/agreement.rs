//! Consistency of votes, and verdicts made from them.

use isr_api::{Verdict, Vote};

/// Whether no two probabilities lie on opposite sides of one half. One half takes no side, so mirrored
/// verdicts get the same result, unlike with a comparison `> 0.5`.
pub(crate) fn agree(probabilities: impl IntoIterator<Item = f64>) -> bool {
    let (mut first, mut second) = (false, false);
    for p in probabilities {
        first |= p > 0.5;
        second |= p < 0.5;
    }
    !(first && second)
}

/// Verdict with the mean of the votes, consistent if they agree.
pub(crate) fn averaged(votes: Vec<Vote>) -> Verdict {
    let consistent = agree(votes.iter().map(|vote| vote.p_first));
    Verdict { consistent, ..Verdict::from_votes(votes) }
}

/// Verdict without votes, of a judge that compares without a presentation order; always consistent.
pub(crate) fn orderless(p_first: f64) -> Verdict {
    Verdict { p_first, votes: Vec::new(), consistent: true }
}

/// Inconsistent verdict of one half, which no selection turns into a pair.
pub(crate) fn undecided(votes: Vec<Vote>) -> Verdict {
    Verdict { p_first: 0.5, votes, consistent: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_half_takes_no_side() {
        assert!(agree([0.5, 0.9]) && agree([0.5, 0.1]) && agree([0.5]) && agree([]));
        assert!(!agree([0.4, 0.6]));
    }

    #[test]
    fn averages_of_mirrored_votes_mirror() {
        let vote = |first_shown_first, p_first| Vote { first_shown_first, p_first };
        for ps in [[0.5, 0.75], [0.25, 0.75], [1.0, 1.0], [0.0, 1.0]] {
            let verdict = averaged(vec![vote(true, ps[0]), vote(false, ps[1])]);
            let turned = averaged(vec![vote(true, 1.0 - ps[1]), vote(false, 1.0 - ps[0])]);
            assert_eq!(verdict.mirrored().p_first, turned.p_first);
            assert_eq!(verdict.consistent, turned.consistent);
        }
    }
}
