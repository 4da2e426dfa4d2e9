//! Contract tests of evaluators.

use std::sync::Arc;

use futures::future::join_all;
use isr_api::{Assessment, Evaluator, LabelledSample};

use crate::call::{Outcome, call};
use crate::finding::{Failure, Findings};
use crate::fixtures::hostile_texts;

/// Tests an evaluator against its contract, on a sample that it can evaluate and an ordinary answer to it.
///
/// | rule | requirement |
/// |---|---|
/// | `assessment` | the answer gets an assessment |
/// | `finite` | quality and metrics are finite numbers |
/// | `deterministic` | the same sample and answer give the same assessment |
/// | `concurrent` | concurrent calls give the same assessments as sequential ones |
/// | `errors` | no panic for any text, as answer or as description; texts that cannot be evaluated are `BadInput` |
pub async fn evaluator(
    evaluator: Arc<dyn Evaluator>,
    sample: &LabelledSample,
    answer: &str,
) -> Vec<Failure> {
    let mut findings = Findings::default();
    let outcome = call(evaluator.answer(sample, answer)).await;
    let alone = outcome.value(&mut findings, "an ordinary answer").flatten();
    findings.require(alone.is_some() || findings.breaks("errors"), "assessment", || {
        "an ordinary answer got no assessment".to_owned()
    });
    let again = call(evaluator.answer(sample, answer)).await.value(&mut findings, "an ordinary answer");
    findings.require(again.flatten() == alone, "deterministic", || {
        "an ordinary answer was assessed in two ways; the same text has the same metrics".to_owned()
    });
    if findings.hung() {
        return findings.done();
    }
    let calls = (0..8).map(|_| {
        let (evaluator, sample, answer) = (Arc::clone(&evaluator), sample.clone(), answer.to_owned());
        tokio::spawn(async move { call(evaluator.answer(&sample, &answer)).await })
    });
    for outcome in join_all(calls).await {
        let beside = match outcome {
            Ok(Outcome::Returned(assessment)) => assessment,
            _ => None,
        };
        findings.require(beside == alone, "concurrent", || {
            "an answer was assessed otherwise beside others; calls must not share state".to_owned()
        });
    }
    check(&mut findings, alone.as_ref(), "an ordinary answer");
    for (what, text) in hostile_texts() {
        let subject = format!("{what} as answer");
        let assessed =
            call(evaluator.answer(sample, &text)).await.value_or_refusal(&mut findings, &subject);
        check(&mut findings, assessed.flatten().as_ref(), &subject);
        let subject = format!("{what} as description");
        let assessed =
            call(evaluator.context(sample, &text)).await.value_or_refusal(&mut findings, &subject);
        check(&mut findings, assessed.flatten().as_ref(), &subject);
    }
    findings.done()
}

/// Checks that all figures are finite.
fn check(findings: &mut Findings, assessment: Option<&Assessment>, what: &str) {
    let Some(Assessment { quality, metrics }) = assessment else { return };
    let figures = metrics.iter().map(|(name, value)| (name.as_str(), *value));
    for (name, value) in figures.chain([("quality", *quality)]) {
        findings.require(value.is_finite(), "finite", || {
            format!("{what} has a `{name}` of {value}; leave out a metric that has no value")
        });
    }
}
