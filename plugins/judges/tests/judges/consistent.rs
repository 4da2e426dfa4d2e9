//! The selection `consistent`.

use isr_api::{Candidate, Decision, Verdict, Vote};
use isr_testing::fixtures::response;

use crate::method_config::selection;

fn candidate(p_given: f64, p_turned: f64) -> Candidate {
    let vote = |first_shown_first, p_first| Vote { first_shown_first, p_first };
    Candidate {
        sample: "s".into(),
        first: response("a"),
        second: response("b"),
        verdict: Verdict::from_votes(vec![vote(true, p_given), vote(false, p_turned)]),
    }
}

fn decide(body: &str, votes: [(f64, f64); 5]) -> Vec<Decision> {
    selection(body).select(&votes.map(|(given, turned)| candidate(given, turned)))
}

fn dropped(reason: &str) -> Decision {
    Decision::Drop(reason.to_owned())
}

const VOTES: [(f64, f64); 5] = [(0.9, 0.7), (0.1, 0.4), (0.9, 0.3), (0.5, 0.5), (0.55, 0.53)];

#[test]
fn consistent_verdicts_choose_and_others_are_dropped() {
    let expected = [
        Decision::ChooseFirst,
        Decision::ChooseSecond,
        dropped("inconsistent verdict"),
        dropped("no preference"),
        Decision::ChooseFirst,
    ];
    assert_eq!(decide("", VOTES), expected);
}

#[test]
fn without_the_requirement_the_mean_decides() {
    let decisions = decide("require_consistent = false", VOTES);
    assert_eq!(decisions[2], Decision::ChooseFirst);
    let even = [(0.75, 0.25); 5];
    assert_eq!(decide("require_consistent = false", even)[0], dropped("no preference"));
    assert_eq!(decide("", even)[0], dropped("inconsistent verdict"));
}

#[test]
fn a_tie_in_one_order_is_consistent_with_either_choice_in_the_other() {
    let decisions = decide("", [(0.5, 0.8), (0.8, 0.5), (0.5, 0.2), (0.2, 0.5), (0.5, 0.5)]);
    let [first, second] = [Decision::ChooseFirst, Decision::ChooseSecond];
    assert_eq!(decisions, [first.clone(), first, second.clone(), second, dropped("no preference")]);
}

#[test]
fn small_margins_are_dropped_and_the_limit_itself_is_kept() {
    assert_eq!(decide("min_margin = 0.1", VOTES)[4], dropped("margin below 0.1"));
    assert_eq!(decide("min_margin = 0.1", [(0.6, 0.6); 5])[0], Decision::ChooseFirst);
    assert_eq!(decide("min_margin = 0.5", [(0.0, 0.0); 5])[0], Decision::ChooseSecond);
}

#[test]
fn no_candidates_no_decisions() {
    assert!(selection("").select(&[]).is_empty());
}
