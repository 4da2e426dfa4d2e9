//! Contract tests of all judges and of the retrospector `self`.

use std::sync::Arc;

use isr_api::{Judge, Kind};
use isr_config::registry::Entry;
use isr_testing::fixtures::case;
use isr_testing::{FakePolicy, JudgeRules};

use crate::config::registered;
use crate::method_config::retrospector;

use crate::server::{Act, Server};
use crate::support::judge;

/// Settings beside those of every example.
const MORE: [&str; 10] = [
    "type = 'random'\ndistribution = 'uniform'",
    "type = 'length'\nprefer = 'longer'",
    "type = 'verdict'\nreply = { sampling = { temperature = 1.0 } }",
    "type = 'majority'\ncalls = 4\ninner = { type = 'random' }",
    "type = 'ensemble'\nunanimous = false\nmembers = [{ judge = { type = 'random' } }, { judge = { type = 'verdict' } }]",
    "type = 'cascade'\njudges = [{ type = 'random', distribution = 'uniform' }, { type = 'verdict' }]",
    "type = 'both_orders'\ninner = { type = 'random', distribution = 'uniform' }",
    "type = 'self'\nmin_choice_mass = 0.0",
    "type = 'self'\nmin_choice_mass = 0.0\norders = 'given'",
    "type = 'length_debiased'\nslope = 0.3\ninner = { type = 'majority', inner = { type = 'random' } }",
];

/// A model that gives a verdict or a score that depends on all of prompt, seed and temperature, and says
/// nothing useful now and then.
fn model() -> Arc<FakePolicy> {
    Arc::new(FakePolicy::replying(|request, drawn| {
        let text = request.prompt.transcript();
        let hash =
            text.bytes().fold(drawn, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let hash = hash >> 32;
        match (text.contains("Reply with A or B"), hash % 7) {
            (_, 0) if request.sampling.temperature == 0.0 => "let me think".to_owned(),
            (true, _) => if hash % 2 == 0 { "A" } else { "B" }.to_owned(),
            (false, _) => (1 + hash % 5).to_string(),
        }
    }))
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
    // `human` reads a run directory; the tests of the annotation server have one.
    let examples = registered().filter(|entry| entry.kind == Kind::Judge && entry.name != "human");
    let examples = examples.map(|entry| section(entry, &server));
    let sections = examples.chain(MORE.iter().map(|section| (*section).to_owned()));
    sections.map(|section| (section.clone(), judge(&section))).collect()
}

#[tokio::test]
async fn every_judge_keeps_the_contract() {
    for (section, judge) in judges().await {
        let rules = JudgeRules { policy: model(), ..JudgeRules::default() };
        assert_eq!(isr_testing::judge(judge, &rules).await, [], "{section}");
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
            seen.extend(judge.judge(&case, &model().frozen()).await.ok().map(|verdict| verdict.p_first));
        }
        assert!(seen.iter().any(|p| *p != seen[0]), "{section}: {seen:?}");
    }
}

#[tokio::test]
async fn the_retrospector_keeps_the_contract() {
    assert_eq!(isr_testing::retrospector(retrospector(""), &Arc::default()).await, []);
}
