//! What every judge must hold for: probabilities, mirrored cases, seeds.

use std::sync::Arc;

use isr_core::registry::{Entry, Kind};
use isr_core::{Judge, JudgeCase, Verdict};

use crate::config::registered;
use crate::fake::{Fake, case, judge};
use crate::server::{Act, Server};

/// Settings beside those of every example.
const MORE: [&str; 8] = [
    "type = 'random'\ndistribution = 'uniform'",
    "type = 'length'\nprefer = 'longer'",
    "type = 'verdict'\nreply = { sampling = { temperature = 1.0 } }",
    "type = 'majority'\ncalls = 4\ninner = { type = 'random' }",
    "type = 'ensemble'\nunanimous = false\nmembers = [{ judge = { type = 'random' } }, { judge = { type = 'verdict' } }]",
    "type = 'cascade'\njudges = [{ type = 'random', distribution = 'uniform' }, { type = 'verdict' }]",
    "type = 'both_orders'\ninner = { type = 'random', distribution = 'uniform' }",
    "type = 'length_debiased'\nslope = 0.3\ninner = { type = 'majority', inner = { type = 'random' } }",
];

const ANSWERS: [(&str, &str); 6] = [
    ("the bar is red.", "the bar is blue. it moves to the left."),
    ("as an AI I cannot see the video.", "it moves."),
    ("", "something"),
    ("same", "same"),
    ("A", "B"),
    ("unicode: \u{1f600} \u{e9}t\u{e9}", "{{ question }} {% if %}"),
];

/// A model that gives a verdict or a score that depends on all of prompt, seed and temperature, and says
/// nothing useful now and then.
fn model() -> Arc<Fake> {
    Fake::replying(|request| {
        let text = request.prompt.transcript();
        let drawn = if request.sampling.temperature > 0.0 { request.seed } else { 0 };
        let hash =
            text.bytes().fold(drawn, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let hash = hash >> 32;
        match (text.contains("Reply with A or B"), hash % 7) {
            (_, 0) if request.sampling.temperature == 0.0 => "let me think".to_owned(),
            (true, _) => if hash % 2 == 0 { "A" } else { "B" }.to_owned(),
            (false, _) => (1 + hash % 5).to_string(),
        }
    })
}

/// The example's section, with a server that is there.
fn section(entry: &Entry, server: &Server) -> String {
    let mut table: toml::Table = toml::from_str(entry.example).unwrap();
    table.insert("type".to_owned(), entry.name.into());
    if table.contains_key("base_url") {
        table.insert("base_url".to_owned(), server.base_url.clone().into());
        // Its example is polite to a server that others use.
        table.remove("requests_per_minute");
        table.insert("backoff_s".to_owned(), 0.001.into());
    }
    toml::to_string(&table).unwrap()
}

/// Every judge; some ask a server, which loses every fifth reply.
async fn judges() -> Vec<(String, Arc<dyn Judge>)> {
    let server = Server::start(|index| if index % 5 == 0 { Act::Truncate } else { Act::Judge }).await;
    let examples = registered().filter(|entry| entry.kind == Kind::Judge);
    let examples = examples.map(|entry| section(entry, &server));
    let sections = examples.chain(MORE.iter().map(|section| (*section).to_owned()));
    sections.map(|section| (section.clone(), judge(&section))).collect()
}

/// The verdict, or that there is none.
async fn verdict(judge: &Arc<dyn Judge>, case: &JudgeCase) -> Option<Verdict> {
    model().judge(judge, case).await.ok()
}

fn cases() -> Vec<JudgeCase> {
    let mut cases = Vec::new();
    for (first, second) in ANSWERS {
        for seed in [0, 1, 2, u64::MAX] {
            for context in [true, false] {
                let mut case = case(first, second);
                case.seed = seed;
                case.context = case.context.filter(|_| context);
                cases.push(case);
            }
        }
    }
    cases
}

/// Whether it shows one order only, and so may lean to a place.
fn shows_one_order(section: &str) -> bool {
    section.contains("orders = \"given\"") && !section.contains("both_orders")
}

#[tokio::test]
async fn probabilities_are_probabilities() {
    for (section, judge) in judges().await {
        let mut given = 0;
        for case in cases() {
            let Some(verdict) = verdict(&judge, &case).await else { continue };
            given += 1;
            let votes = verdict.votes.iter().map(|vote| vote.p_first);
            for p in votes.chain([verdict.p_first]) {
                assert!((0.0..=1.0).contains(&p), "{section}: {verdict:?}");
            }
        }
        assert!(given > cases().len() / 2, "{section} has few verdicts to check: {given}");
    }
}

#[tokio::test]
async fn the_same_case_gets_the_same_verdict() {
    for (section, judge) in judges().await {
        for case in cases() {
            assert_eq!(verdict(&judge, &case).await, verdict(&judge, &case).await, "{section}");
        }
    }
}

#[tokio::test]
async fn swapped_answers_get_the_mirrored_verdict() {
    for (section, judge) in judges().await.into_iter().filter(|(section, _)| !shows_one_order(section)) {
        for case in cases() {
            let expected = verdict(&judge, &case).await.map(|verdict| verdict.mirrored());
            let got = verdict(&judge, &case.swapped()).await;
            match (&expected, &got) {
                (Some(left), Some(right)) => {
                    assert!((left.p_first - right.p_first).abs() < 1e-9, "{section}: {left:?} {right:?}");
                    assert_eq!(left.consistent, right.consistent, "{section}: {left:?} {right:?}");
                }
                _ => assert_eq!(expected.is_none(), got.is_none(), "{section}"),
            }
        }
    }
}

#[tokio::test]
async fn cases_of_other_seeds_do_not_all_get_one_verdict_from_judges_that_draw() {
    for section in [MORE[0], MORE[2], MORE[3]] {
        let judge = judge(section);
        let mut seen = Vec::new();
        for seed in 0..40 {
            let mut case = case("a red bar.", "a blue bar.");
            case.seed = seed;
            seen.extend(verdict(&judge, &case).await.map(|verdict| verdict.p_first));
        }
        assert!(seen.iter().any(|p| *p != seen[0]), "{section}: {seen:?}");
    }
}
