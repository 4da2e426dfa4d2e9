//! Contract tests of retrospectors.

use std::sync::Arc;

use futures::future::join_all;
use isr_api::{FrozenPolicy, RetrospectionCase, Retrospector};

use crate::FakePolicy;
use crate::call::{Outcome, call};
use crate::finding::{Failure, Findings};
use crate::fixtures::{hostile_texts, retrospection, scene_named};

/// Tests a retrospector against its contract.
///
/// | rule | requirement |
/// |---|---|
/// | `description` | an ordinary video gets a non-empty description |
/// | `deterministic` | the same case and seed give the same description |
/// | `concurrent` | concurrent calls give the same descriptions as sequential ones |
/// | `errors` | no panic for any previous description; videos that cannot be described are `BadInput` |
pub async fn retrospector(retrospector: Arc<dyn Retrospector>, policy: &Arc<FakePolicy>) -> Vec<Failure> {
    let policy = policy.frozen();
    let mut findings = Findings::default();
    let cases = cases();
    let mut alone = Vec::new();
    for case in &cases {
        let text = describe(&retrospector, case, &policy, &mut findings).await;
        let again = describe(&retrospector, case, &policy, &mut findings).await;
        findings.require(text == again, "deterministic", || {
            format!("seed {} gave {text:?} and then {again:?}; draw from `case.seed` alone", case.seed)
        });
        alone.push(text);
        if findings.hung() {
            return findings.done();
        }
    }
    let calls = cases.into_iter().map(|case| {
        let (retrospector, policy) = (Arc::clone(&retrospector), policy.clone());
        tokio::spawn(async move { call(retrospector.describe(&case, &policy)).await })
    });
    for (outcome, alone) in join_all(calls).await.into_iter().zip(&alone) {
        let text = match outcome {
            Ok(Outcome::Returned(text)) => Some(text),
            _ => None,
        };
        findings.require(text == *alone, "concurrent", || {
            format!("a video got {alone:?} alone and {text:?} beside others; calls must not share state")
        });
    }
    for (what, text) in hostile_texts() {
        let outcome = call(retrospector.describe(&retrospection(Some(&text)), &policy)).await;
        outcome.value_or_refusal(&mut findings, &format!("a case with {what} as previous description"));
    }
    findings.done()
}

/// Ordinary cases, with and without previous descriptions.
fn cases() -> Vec<RetrospectionCase> {
    let mut cases = Vec::new();
    for previous in [None, Some("a bar moves."), Some("a red bar moves to the left.")] {
        for (seed, video) in [(0, "clips/1.mp4"), (u64::MAX, "clips/2.mp4")] {
            cases.push(RetrospectionCase { scene: scene_named(video), seed, ..retrospection(previous) });
        }
    }
    cases
}

/// Calls the retrospector on an ordinary video and checks the description.
async fn describe(
    retrospector: &Arc<dyn Retrospector>,
    case: &RetrospectionCase,
    policy: &FrozenPolicy,
    findings: &mut Findings,
) -> Option<String> {
    let outcome = call(retrospector.describe(case, policy)).await;
    let text = match outcome {
        Outcome::Refused(reason) => {
            findings.note("description", format!("an ordinary video was refused with \"{reason}\""));
            return None;
        }
        other => other.value_or_refusal(findings, "an ordinary video")?,
    };
    findings.require(!text.trim().is_empty(), "description", || {
        "an ordinary video got an empty description".to_owned()
    });
    Some(text)
}
