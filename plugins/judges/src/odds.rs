//! Log-odds.

use isr_api::{Choice, Verdict, Vote};

/// Logistic function `1 / (1 + exp(-x))`.
pub(crate) fn sigmoid(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

/// Log-odds of a probability that is first clamped to `[clip, 1 - clip]`, so that they are finite.
pub(crate) fn logit(p: f64, clip: f64) -> f64 {
    let p = p.clamp(clip, 1.0 - clip);
    (p / (1.0 - p)).ln()
}

/// The verdict, with an effect in log-odds for the first answer subtracted from each of its probabilities.
pub(crate) fn without_effect(verdict: &Verdict, effect: f64, clip: f64) -> Verdict {
    let corrected = |p: f64| sigmoid(logit(p, clip) - effect);
    let vote = |vote: &Vote| Vote { p_first: corrected(vote.p_first), ..vote.clone() };
    let votes: Vec<_> = verdict.votes.iter().map(vote).collect();
    // The correction may divide votes that agreed.
    let consistent = verdict.consistent && Choice::consistent(votes.iter().map(Vote::choice));
    Verdict { p_first: corrected(verdict.p_first), votes, consistent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_odds_are_the_inverse_of_the_sigmoid_and_finite_at_certainty() {
        for p in [0.01, 0.3, 0.5, 0.99] {
            assert!((sigmoid(logit(p, 1e-6)) - p).abs() < 1e-12);
        }
        assert_eq!(logit(1.0, 0.01), logit(0.99, 0.01));
        assert!((logit(0.0, 0.01) + logit(1.0, 0.01)).abs() < 1e-12);
        assert_eq!((sigmoid(1e4), sigmoid(-1e4), sigmoid(0.0)), (1.0, 0.0, 0.5));
    }
}
