//! Contract tests of judges.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use isr_api::{FrozenPolicy, Judge, JudgeCase, Verdict};

use crate::FakePolicy;
use crate::call::{Outcome, call};
use crate::finding::{Failure, Findings};
use crate::fixtures::{case, cases, hostile_texts};

/// Times after which a judge is given up that has given no verdict: to some cases, or to any.
const PATIENCE: [(usize, Duration); 2] = [(6, Duration::from_secs(10)), (1, Duration::from_secs(60))];

/// Parameters of the suite for judges.
#[derive(Clone, Debug)]
pub struct JudgeRules {
    /// Policy that the judge gets. Default: [`FakePolicy::default`].
    pub policy: Arc<FakePolicy>,
    /// Minimum share of ordinary cases that must get a verdict. Default 0.5.
    pub least_verdicts: f64,
    /// Ordinary cases. Default: [`cases`].
    pub cases: Vec<JudgeCase>,
}

impl Default for JudgeRules {
    fn default() -> Self {
        Self { policy: Arc::default(), least_verdicts: 0.5, cases: cases() }
    }
}

/// Tests a judge against its contract.
///
/// | rule | requirement |
/// |---|---|
/// | `verdicts` | at least [`JudgeRules::least_verdicts`] of the ordinary cases get verdicts |
/// | `probability` | `p_first` of the verdict and of each vote is in [0, 1] |
/// | `deterministic` | the same case and seed get the same verdict |
/// | `mirrored` | swapped answers get the mirrored verdict, except from a judge with a single presentation order |
/// | `concurrent` | concurrent calls give the same verdicts as sequential ones |
/// | `errors` | no panic for any text; cases that cannot be judged are `BadInput` |
pub async fn judge(judge: Arc<dyn Judge>, rules: &JudgeRules) -> Vec<Failure> {
    let policy = rules.policy.frozen();
    let mut findings = Findings::default();
    let (cases, start) = (&rules.cases, Instant::now());
    let mut alone = Vec::new();
    for case in cases {
        let verdict = verdict(&judge, case, &policy, "an ordinary case", &mut findings).await;
        check_again(&judge, case, &policy, &verdict, &mut findings).await;
        check_mirrored(&judge, case, &policy, &verdict, &mut findings).await;
        alone.push(verdict);
        if findings.hung() {
            return findings.done();
        }
        let is_spent = |(count, time): (usize, Duration)| alone.len() >= count && start.elapsed() > time;
        if alone.iter().all(Option::is_none) && PATIENCE.into_iter().any(is_spent) {
            let (count, reason) = (alone.len(), findings.first_refusal());
            findings.note(
                "verdicts",
                format!("none of {count} ordinary cases got a verdict; the first: {reason}"),
            );
            return findings.done();
        }
    }
    let given = alone.iter().flatten().count();
    let reason = findings.first_refusal();
    findings.require(given as f64 >= rules.least_verdicts * cases.len() as f64, "verdicts", || {
        format!("{given} of {} ordinary cases got a verdict; the first that did not: {reason}", cases.len())
    });
    check_together(&judge, cases, &policy, &alone, &mut findings).await;
    check_hostile(&judge, &policy, &mut findings).await;
    findings.done()
}

/// Calls the judge and checks its verdict.
async fn verdict(
    judge: &Arc<dyn Judge>,
    case: &JudgeCase,
    policy: &FrozenPolicy,
    what: &str,
    findings: &mut Findings,
) -> Option<Verdict> {
    let outcome = call(judge.judge(case, policy)).await;
    let verdict = outcome.value_or_refusal(findings, what)?;
    let all = verdict.votes.iter().map(|vote| vote.p_first).chain([verdict.p_first]);
    for p in all {
        findings.require((0.0..=1.0).contains(&p), "probability", || {
            format!("{what} got the probability {p}; it must be in [0, 1]")
        });
    }
    Some(verdict)
}

async fn check_again(
    judge: &Arc<dyn Judge>,
    case: &JudgeCase,
    policy: &FrozenPolicy,
    before: &Option<Verdict>,
    findings: &mut Findings,
) {
    let again = verdict(judge, case, policy, "an ordinary case", findings).await;
    findings.require(same(&again, before), "deterministic", || {
        format!(
            "{} got {} and then {}; draw from `case.seed` alone",
            shown(case),
            said(before),
            said(&again)
        )
    });
}

async fn check_mirrored(
    judge: &Arc<dyn Judge>,
    case: &JudgeCase,
    policy: &FrozenPolicy,
    verdict_: &Option<Verdict>,
    findings: &mut Findings,
) {
    let swapped = verdict(judge, &case.swapped(), policy, "an ordinary case", findings).await;
    if verdict_.iter().chain(&swapped).any(shows_one_order) {
        return;
    }
    let holds = match (verdict_, &swapped) {
        (Some(verdict), Some(swapped)) => {
            (verdict.mirrored().p_first - swapped.p_first).abs() < 1e-9
                && verdict.consistent == swapped.consistent
        }
        (one, other) => one.is_none() == other.is_none(),
    };
    findings.require(holds, "mirrored", || {
        format!(
            "{} got {}, and with the answers swapped {}; a preference for a place is a bias: show both \
             orders",
            shown(case),
            said(verdict_),
            said(&swapped)
        )
    });
}

/// Whether the votes show a single presentation order, so that position bias is allowed.
fn shows_one_order(verdict: &Verdict) -> bool {
    let mut orders = verdict.votes.iter().map(|vote| vote.first_shown_first);
    orders.next().is_some_and(|first| orders.all(|other| other == first))
}

async fn check_together(
    judge: &Arc<dyn Judge>,
    cases: &[JudgeCase],
    policy: &FrozenPolicy,
    alone: &[Option<Verdict>],
    findings: &mut Findings,
) {
    let calls = cases.iter().cloned().map(|case| {
        let (judge, policy) = (Arc::clone(judge), policy.clone());
        tokio::spawn(async move { call(judge.judge(&case, &policy)).await })
    });
    let together = join_all(calls).await;
    for ((outcome, alone), case) in together.into_iter().zip(alone).zip(cases) {
        let verdict = match outcome.unwrap_or(Outcome::TookTooLong) {
            Outcome::Returned(verdict) => Some(verdict),
            _ => None,
        };
        findings.require(same(&verdict, alone), "concurrent", || {
            format!(
                "{} got {} alone and {} beside others; calls must not share state",
                shown(case),
                said(alone),
                said(&verdict)
            )
        });
    }
}

async fn check_hostile(judge: &Arc<dyn Judge>, policy: &FrozenPolicy, findings: &mut Findings) {
    for (what, text) in hostile_texts() {
        let mut question = case("the bar is red.", "the bar is blue.");
        question.instruction.clone_from(&text);
        let mut evidence = case("the bar is red.", "the bar is blue.");
        if let Some(context) = &mut evidence.context {
            context.text.clone_from(&text);
        }
        let answers = case(&text, "it moves.");
        for (place, case) in
            [("an answer", answers), ("the instruction", question), ("the context", evidence)]
        {
            verdict(judge, &case, policy, &format!("a case with {what} as {place}"), findings).await;
        }
    }
}

fn same(one: &Option<Verdict>, other: &Option<Verdict>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => format!("{one:?}") == format!("{other:?}"),
        (one, other) => one.is_none() && other.is_none(),
    }
}

fn shown(case: &JudgeCase) -> String {
    format!("\"{}\" against \"{}\" (seed {})", case.first.text, case.second.text, case.seed)
}

fn said(verdict: &Option<Verdict>) -> String {
    match verdict {
        Some(verdict) if verdict.consistent => format!("{}", verdict.p_first),
        Some(verdict) => format!("{} (inconsistent)", verdict.p_first),
        None => "no verdict".to_owned(),
    }
}
