//! The judge `self`.

use std::sync::Arc;

use isr_api::{ComponentError, Continuation, JudgeCase, ScoreRequest, Verdict};
use isr_testing::{ScriptedPolicy, fixtures};

use crate::method_config::{MINIATURE_JUDGE, judge};

/// A case with a description, or without one.
pub(crate) fn case(context: Option<&str>) -> JudgeCase {
    let context = context.map(fixtures::context);
    JudgeCase { context, ..fixtures::case("bar is red.", "bar is blue. it moves.") }
}

/// The prefixes that a request scores.
fn prefixes(request: &ScoreRequest) -> Vec<&str> {
    let prefixes = request.continuations.iter().map(|continuation| match continuation {
        Continuation::Prefix(text) => text.as_str(),
        _ => panic!("a choice is scored as the prefix of a reply"),
    });
    prefixes.collect()
}

/// Log-probs of choices with these probabilities.
fn choices(first: f64, second: f64) -> Vec<Vec<f32>> {
    vec![vec![first.ln() as f32], vec![second.ln() as f32]]
}

async fn verdict(body: &str, policy: &Arc<ScriptedPolicy>) -> Result<Verdict, ComponentError> {
    judge(&format!("{MINIATURE_JUDGE}{body}")).judge(&case(Some("bar is red.")), &policy.frozen()).await
}

/// True where the answer `first` of the case stands first in the prompt.
fn shows_first_first(prompt: &str) -> bool {
    prompt.contains("a: bar is red.\n")
}

fn assert_close(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-6, "{got} is not {expected}");
}

#[tokio::test]
async fn a_judge_that_sees_quality_gives_one_probability_in_both_orders() {
    let policy = ScriptedPolicy::scoring(|prompt| {
        if shows_first_first(prompt) { choices(0.8, 0.2) } else { choices(0.2, 0.8) }
    });
    let verdict = verdict("", &policy).await.unwrap();
    assert_eq!(verdict.votes.iter().map(|vote| vote.first_shown_first).collect::<Vec<_>>(), [true, false]);
    for vote in &verdict.votes {
        assert_close(vote.p_first, 0.8);
    }
    assert_close(verdict.p_first, 0.8);
    assert!(verdict.consistent && verdict.prefers_first());
}

#[tokio::test]
async fn a_judge_that_sees_position_only_is_undecided_and_inconsistent() {
    let policy = ScriptedPolicy::scoring(|_| choices(0.9, 0.1));
    let verdict = verdict("", &policy).await.unwrap();
    assert_close(verdict.votes[0].p_first, 0.9);
    assert_close(verdict.votes[1].p_first, 0.1);
    assert_close(verdict.p_first, 0.5);
    assert!(!verdict.consistent);
}

/// Exact ties are common where logits are bfloat16.
#[tokio::test]
async fn a_tie_in_one_order_is_consistent_and_mirrors() {
    for (given, turned) in [(0.4, 0.2), (0.2, 0.4), (0.3, 0.3)] {
        let p = |one: f64, other: f64| one / (one + other);
        // A tie where the first answer is shown first, and these choices where the second one is.
        let policy = ScriptedPolicy::scoring(move |prompt| {
            if shows_first_first(prompt) { choices(0.3, 0.3) } else { choices(turned, given) }
        });
        let expected = 0.5 * (0.5 + p(given, turned));
        let one = verdict("", &policy).await.unwrap();
        assert_close(one.p_first, expected);
        assert!(one.consistent, "{one:?}");
        let judge = judge(MINIATURE_JUDGE);
        let other = judge.judge(&case(Some("bar is red.")).swapped(), &policy.frozen()).await.unwrap();
        assert_close(other.p_first, one.mirrored().p_first);
        assert_eq!(other.consistent, one.consistent);
    }
}

#[tokio::test]
async fn given_order_asks_once() {
    let policy = ScriptedPolicy::scoring(|_| choices(0.9, 0.1));
    let verdict = verdict("orders = \"given\"", &policy).await.unwrap();
    assert_eq!((verdict.votes.len(), policy.scored().len()), (1, 1));
    assert_close(verdict.p_first, 0.9);
    assert!(shows_first_first(&policy.scored()[0].prompt.transcript()));
}

#[tokio::test]
async fn the_probability_is_the_softmax_over_sums_of_token_log_probs() {
    // Two tokens against one: -0.25 - 0.75 = -1.0 and -2.0; the mass beside them does not count.
    let policy = ScriptedPolicy::scoring(|_| vec![vec![-0.25, -0.75], vec![-2.0]]);
    let verdict = verdict("orders = \"given\"", &policy).await.unwrap();
    assert_close(verdict.p_first, 1.0 / (1.0 + (-1.0_f64).exp()));
}

#[tokio::test]
async fn both_choices_are_scored_as_prefixes_in_the_order_of_showing() {
    let policy = ScriptedPolicy::scoring(|_| choices(0.5, 0.4));
    judge(r#"choices = ["1", "2"]"#).judge(&case(None), &policy.frozen()).await.unwrap();
    for request in &policy.scored() {
        assert_eq!(prefixes(request), ["1", "2"]);
        let prompt = request.prompt.transcript();
        assert!(prompt.contains("Answer 1: ") && prompt.contains("Reply with 1 or 2 only."), "{prompt}");
    }
}

#[tokio::test]
async fn choices_that_are_turned_round_stand_for_the_same_places() {
    // The policy says `b` for what is shown first; the config knows.
    let turned = r#"choices = ["b", "a"]"#;
    let body = MINIATURE_JUDGE.replace(r#"choices = ["a", "b"]"#, turned);
    let body = body.replace("a: {{ first }}\\nb: {{ second }}", "b: {{ first }}\\na: {{ second }}");
    let policy = ScriptedPolicy::scoring(|_| choices(0.7, 0.3));
    let verdict =
        judge(&format!("{body}orders = \"given\"")).judge(&case(None), &policy.frozen()).await.unwrap();
    assert_eq!(prefixes(&policy.scored()[0]), ["b", "a"]);
    assert_close(verdict.p_first, 0.7);
}

#[tokio::test]
async fn a_policy_that_says_something_else_gives_no_verdict() {
    let policy = ScriptedPolicy::scoring(|_| choices(0.004, 0.001));
    let error = verdict("", &policy).await.unwrap_err();
    assert!(matches!(error, ComponentError::BadInput(_)));
    insta::assert_snapshot!(error, @"no verdict: `a` and `b` together have a probability of 5.00e-3, less than min_choice_mass (0.01); the prompt must make the model answer with one of them");
    let accepted = verdict("min_choice_mass = 0.0", &policy).await.unwrap();
    assert_close(accepted.votes[0].p_first, 0.8);
}

#[tokio::test]
async fn certainty_and_impossibility_stay_numbers() {
    let policy = ScriptedPolicy::scoring(|_| vec![vec![0.0], vec![f32::NEG_INFINITY]]);
    assert_eq!(verdict("orders = \"given\"", &policy).await.unwrap().p_first, 1.0);
    let policy = ScriptedPolicy::scoring(|_| vec![vec![-2000.0], vec![0.0]]);
    assert_eq!(verdict("orders = \"given\"", &policy).await.unwrap().p_first, 0.0);
    let policy = ScriptedPolicy::scoring(|_| vec![vec![f32::NEG_INFINITY]; 2]);
    let error = verdict("min_choice_mass = 0.0", &policy).await.unwrap_err();
    assert!(matches!(error, ComponentError::BadInput(_)));
}

#[tokio::test]
async fn a_policy_that_breaks_its_contract_stops_the_run() {
    for scores in [vec![], vec![vec![-1.0]], vec![vec![f32::NAN], vec![-1.0]], vec![vec![], vec![-1.0]]] {
        let policy = ScriptedPolicy::scoring(move |_| scores.clone());
        let error = verdict("", &policy).await.unwrap_err();
        assert!(matches!(error, ComponentError::Failed(_)), "{error}");
    }
}

#[tokio::test]
async fn the_same_case_gives_the_same_verdict_and_nothing_is_sampled() {
    let policy = ScriptedPolicy::scoring(|prompt| choices(0.1 + 0.8 / prompt.len() as f64, 0.2));
    let first = verdict("", &policy).await.unwrap();
    assert_eq!(first, verdict("", &policy).await.unwrap());
    assert!(policy.generated().is_empty());
}
