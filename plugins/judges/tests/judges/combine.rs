//! Judges made of judges.

use std::sync::Arc;

use isr_api::{ComponentError, JudgeCase, Verdict};

use isr_testing::ScriptedPolicy;
use isr_testing::fixtures::case;

use crate::support::{judge, judged};

async fn heard(section: &str, case: &JudgeCase) -> (Result<Verdict, ComponentError>, Arc<ScriptedPolicy>) {
    let fake = ScriptedPolicy::saying("");
    (judged(&fake, &judge(section), case).await, fake)
}

async fn verdict(section: &str, first: &str, second: &str) -> Verdict {
    heard(section, &case(first, second)).await.0.unwrap()
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-9
}

#[tokio::test]
async fn both_orders_takes_a_position_bias_out() {
    // This one prefers what stands first, whatever it says.
    let biased = verdict("type = 'both_orders'\ninner = { type = 'stub', p = 0.9 }", "a", "b").await;
    assert_eq!((biased.p_first, biased.consistent), (0.5, false));
    assert_eq!(biased.votes.len(), 2);
    assert!(biased.votes[0].first_shown_first && !biased.votes[1].first_shown_first);
    assert!(close(biased.votes[0].p_first, 0.9) && close(biased.votes[1].p_first, 0.1));

    let fair = verdict("type = 'both_orders'\ninner = { type = 'length', slope = 1.0 }", "a", "b c").await;
    assert!(close(fair.p_first, 1.0 / (1.0 + (-1.0_f64).exp())) && fair.consistent);
    let unsure = "type = 'both_orders'\ninner = { type = 'stub', p = 0.5, consistent = false }";
    assert!(!verdict(unsure, "a", "b").await.consistent);
}

#[tokio::test]
async fn a_majority_asks_with_other_seeds_and_shares_the_calls() {
    let section = "type = 'majority'\ncalls = 7\ninner = { type = 'random' }";
    let mut shares = Vec::new();
    for seed in 0..20 {
        let mut case = case("a", "b");
        case.seed = seed;
        let verdict = heard(section, &case).await.0.unwrap();
        assert!(close((verdict.p_first * 7.0).round(), verdict.p_first * 7.0));
        assert!(verdict.consistent, "seven calls have no tie");
        shares.push(verdict.p_first);
    }
    assert!(shares.iter().any(|&p| p > 0.0 && p < 1.0), "all calls had one seed: {shares:?}");
    let (_, fake) = heard("type = 'majority'\ncalls = 5\ninner = { type = 'stub' }", &case("a", "b")).await;
    let mut seeds: Vec<_> = fake.generated().iter().map(|request| request.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 5);
}

#[tokio::test]
async fn a_majority_is_consistent_by_its_agreement_and_ties_are_not() {
    let section = "type = 'majority'\ncalls = 3\nmin_agreement = 1.0\ninner = { type = 'random' }";
    let mut seen = [false; 2];
    for seed in 0..30 {
        let mut case = case("a", "b");
        case.seed = seed;
        let verdict = heard(section, &case).await.0.unwrap();
        let unanimous = verdict.p_first == 0.0 || verdict.p_first == 1.0;
        assert_eq!(verdict.consistent, unanimous);
        seen[usize::from(unanimous)] = true;
    }
    assert_eq!(seen, [true; 2]);
    for inner in ["p = 0.5", "p = 0.9, consistent = false"] {
        let tie =
            verdict(&format!("type = 'majority'\ninner = {{ type = 'stub', {inner} }}"), "a", "b").await;
        assert_eq!((tie.p_first, tie.consistent), (0.5, false), "{inner}");
    }
}

#[tokio::test]
async fn an_ensemble_weighs_and_needs_one_side() {
    let members = |second: &str, rest: &str| {
        format!(
            "type = 'ensemble'\n{rest}\nmembers = [\n\
             {{ weight = 3.0, judge = {{ type = 'stub', p = 0.9, votes = [0.9] }} }},\n\
             {{ judge = {{ type = 'stub', {second} }} }},\n\
             {{ weight = 0.0, judge = {{ type = 'stub', name = 'silent', error = 'failed' }} }}]"
        )
    };
    let agreed = verdict(&members("p = 0.5", ""), "a", "b").await;
    assert!(close(agreed.p_first, 0.8) && agreed.consistent);
    assert_eq!(agreed.votes.len(), 1);
    let opposed = verdict(&members("p = 0.1", ""), "a", "b").await;
    assert!(close(opposed.p_first, 0.7) && !opposed.consistent);
    assert!(verdict(&members("p = 0.1", "unanimous = false"), "a", "b").await.consistent);
    assert!(!verdict(&members("p = 0.9, consistent = false", ""), "a", "b").await.consistent);
    let (outcome, fake) = heard(&members("error = 'input'", ""), &case("a", "b")).await;
    assert!(matches!(outcome, Err(ComponentError::BadInput(_))));
    assert!(!fake.prompts().contains(&"silent".to_owned()));
}

#[tokio::test]
async fn a_cascade_asks_the_next_judge_only_where_the_one_before_is_unsure() {
    let cascade = |first: &str| {
        format!(
            "type = 'cascade'\nmin_margin = 0.25\njudges = [{{ type = 'stub', name = 'cheap', {first} }}, \
             {{ type = 'stub', name = 'dear', p = 0.6 }}]"
        )
    };
    for (first, asked, p) in [
        ("p = 0.75", "cheap", 0.75),
        ("p = 0.25", "cheap", 0.25),
        ("p = 0.7", "cheap dear", 0.6),
        ("p = 0.9, consistent = false", "cheap dear", 0.6),
        ("error = 'input'", "cheap dear", 0.6),
    ] {
        let (outcome, fake) = heard(&cascade(first), &case("a", "b")).await;
        assert_eq!((outcome.unwrap().p_first, fake.prompts().join(" ").as_str()), (p, asked), "{first}");
    }
    let (broken, fake) = heard(&cascade("error = 'failed'"), &case("a", "b")).await;
    assert!(matches!(broken, Err(ComponentError::Failed(_))), "what breaks a run is not passed over");
    assert_eq!(fake.generated().len(), 1);
}

#[tokio::test]
async fn the_length_effect_is_subtracted_in_log_odds() {
    let section = |p: f64, slope: f64| {
        format!("type = 'length_debiased'\nslope = {slope:?}\ninner = {{ type = 'stub', p = {p} }}")
    };
    let (long, short) = ("one two three four five", "one");
    // logit 0.75 = ln 3; four words at ln(3) / 4 make it even.
    let even = verdict(&section(0.75, 3.0_f64.ln() / 4.0), long, short).await;
    assert!(close(even.p_first, 0.5), "{even:?}");
    let turned = verdict(&section(0.75, 3.0_f64.ln() / 2.0), long, short).await;
    assert!(close(turned.p_first, 0.25), "{turned:?}");
    let helped = verdict(&section(0.25, 3.0_f64.ln() / 2.0), short, long).await;
    assert!(close(helped.p_first, 0.75), "{helped:?}");
    assert!(close(verdict(&section(0.7, 1.0), "a b", "c d").await.p_first, 0.7), "equal lengths");
    let certain = verdict(&section(1.0, 10.0), long, short).await;
    assert!(certain.p_first < 0.5 && certain.p_first > 0.0, "{certain:?}");
}

#[tokio::test]
async fn votes_that_a_correction_divides_are_inconsistent() {
    let section = "type = 'length_debiased'\nslope = 0.3\n\
                   inner = { type = 'stub', p = 0.75, votes = [0.95, 0.55] }";
    let divided = verdict(section, "one two three", "one").await;
    assert!(divided.votes[0].p_first > 0.5 && divided.votes[1].p_first < 0.5);
    assert!(!divided.consistent);
    assert!(verdict(section, "one", "two").await.consistent);
    let unsure = section.replace("p = 0.75,", "p = 0.75, consistent = false,");
    assert!(!verdict(&unsure, "one", "two").await.consistent, "no correction makes a judge sure");
}

#[tokio::test]
async fn abstaining_is_one_half_and_inconsistent() {
    let section = |p| format!("type = 'abstain'\nmin_margin = 0.2\ninner = {{ type = 'stub', p = {p} }}");
    let unsure = verdict(&section(0.65), "a", "b").await;
    assert_eq!((unsure.p_first, unsure.consistent), (0.5, false));
    for p in [0.75, 0.25] {
        let sure = verdict(&section(p), "a", "b").await;
        assert_eq!((sure.p_first, sure.consistent), (p, true));
    }
}

#[tokio::test]
async fn a_veto_cannot_be_outvoted_and_spares_the_judge() {
    let section = "type = 'veto'\nrules = [{ keywords = ['sorry'], points = -1 }]\n\
                   inner = { type = 'stub', p = 0.7 }";
    let (good, bad) = ("it is red.", "sorry, I cannot say.");
    for (first, second, p, consistent, asked) in [
        (good, good, 0.7, true, 1),
        (bad, good, 0.0, true, 0),
        (good, bad, 1.0, true, 0),
        (bad, bad, 0.5, false, 0),
    ] {
        let (outcome, fake) = heard(section, &case(first, second)).await;
        let verdict = outcome.unwrap();
        assert_eq!((verdict.p_first, verdict.consistent), (p, consistent), "{first} / {second}");
        assert_eq!(fake.generated().len(), asked, "{first} / {second}");
    }
}

#[tokio::test]
async fn judges_nest() {
    let section = "
        type = 'length_debiased'
        slope = 0.0
        [inner]
        type = 'both_orders'
        [inner.inner]
        type = 'ensemble'
        members = [{ judge = { type = 'length' } }, { judge = { type = 'rule', rules = [{ min_words = 1 }] } }]
    ";
    let verdict = verdict(section, "a", "b c").await;
    assert!(close(verdict.p_first, 0.75), "{verdict:?}");
}
