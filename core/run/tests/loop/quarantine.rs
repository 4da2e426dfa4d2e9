//! Bad samples are left out and counted; too many of them stop the run.

use std::sync::Arc;

use async_trait::async_trait;
use isr_api::records::{QuarantineRecord, Summary, VerdictRecord};
use isr_api::{
    ComponentError, Error, FrozenPolicy, Judge, JudgeCase, RetrospectionCase, Retrospector, SampleId,
    Verdict,
};
use isr_run::store::read_journal;

use crate::bench::{Fakes, Settings, assert_same, run_under, run_with, scratch, tree};
use crate::control::{Act, Call, Control};
use crate::fakes::{FakeSource, samples};

/// Two of these clips hold two samples each.
fn torn_clips(call: &Call<'_>) -> Act {
    match call.name {
        "read clips/s1.mp4" => Act::BadInput("moov atom not found"),
        "read clips/s3.mp4" => Act::BadInput("no such file"),
        _ => Act::Work,
    }
}

struct BadJudge(f64);

#[async_trait]
impl Judge for BadJudge {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let p_first = if case.instruction.ends_with("0?") { self.0 } else { 0.9 };
        Ok(Verdict { p_first, votes: Vec::new(), consistent: true })
    }
}

struct Speechless;

#[async_trait]
impl Retrospector for Speechless {
    async fn describe(&self, case: &RetrospectionCase, _: &FrozenPolicy) -> Result<String, ComponentError> {
        Ok(if case.scene.key().contains("s2") { " \n".to_owned() } else { "It is red.".to_owned() })
    }
}

#[tokio::test]
async fn bad_samples_are_counted_by_stage_and_the_run_goes_on() {
    let rule = |call: &Call<'_>| match call.name {
        "read clips/e1.mp4" => Act::BadInput("no such file"),
        "judge clips/s0.mp4 | What colour is object 0?" => Act::BadInput("the reply does not parse"),
        "describe clips/s2.mp4" => Act::BadInput("the prompt is too long"),
        _ => torn_clips(call),
    };
    let dir = scratch();
    let control = Arc::new(Control::with(rule).delayed(1));
    let mut components = Fakes::new(&control).components;
    let mut training = samples("s", 12);
    training[1].instruction = "  ".to_owned();
    components.data = Arc::new(FakeSource { training, evaluation: samples("e", 3), control });
    let mut settings = Settings::default();
    settings.r#loop.quarantine_limit = 0.7;
    let summary = run_with(dir.path(), &settings, components).await.unwrap();
    let base = summary.base.unwrap();
    assert_eq!((base.samples, base.quarantined), (2, 1));
    assert_eq!(summary.iterations.len(), 3);
    let row = &summary.iterations[0];
    let counts: Vec<_> = row.quarantined.iter().map(|(stage, count)| (stage.as_str(), *count)).collect();
    assert_eq!(counts, [("evaluate", 1), ("judge", 1), ("respond", 5), ("retrospect", 1)]);
    let lines: Vec<QuarantineRecord> =
        read_journal(&dir.path().join("iteration-01/quarantine.jsonl")).unwrap();
    let lines = lines.iter().map(|line| format!("{} {}: {}", line.stage, line.subject, line.reason));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
    respond s1: the instruction is empty
    respond s2: moov atom not found
    respond s3: moov atom not found
    respond s6: no such file
    respond s7: no such file
    retrospect clips/s2.mp4: the prompt is too long
    judge s0: the reply does not parse
    evaluate e2: no such file
    ");
}

async fn judged_by(p_first: f64) -> (Summary, Vec<QuarantineRecord>) {
    let dir = scratch();
    let mut components = Fakes::new(&Arc::default()).components;
    components.judge = Arc::new(BadJudge(p_first));
    let summary = run_with(dir.path(), &Settings::default(), components).await.unwrap();
    let lines = read_journal(&dir.path().join("iteration-01/quarantine.jsonl")).unwrap();
    (summary, lines)
}

#[tokio::test]
async fn a_verdict_that_is_no_probability_is_quarantined() {
    for p_first in [f64::NAN, -0.1, 1.5, f64::INFINITY] {
        let (summary, lines) = judged_by(p_first).await;
        assert_eq!(summary.iterations[0].quarantined["judge"], 1);
        assert_eq!(lines[0].subject, "s0");
        assert_eq!(lines[0].reason, format!("the judge's probability is {p_first}, not in [0, 1]"));
    }
}

#[tokio::test]
async fn an_empty_context_is_quarantined_and_its_samples_are_not_judged() {
    let dir = scratch();
    let mut components = Fakes::new(&Arc::default()).components;
    components.retrospector = Some(Arc::new(Speechless));
    let summary = run_with(dir.path(), &Settings::default(), components).await.unwrap();
    assert_eq!(summary.iterations[0].quarantined["retrospect"], 1);
    let verdicts: Vec<VerdictRecord> =
        read_journal(&dir.path().join("iteration-01/verdicts.jsonl")).unwrap();
    let judged = |id: &str| verdicts.iter().any(|verdict| verdict.sample == SampleId::from(id));
    assert!(judged("s0") && !judged("s4") && !judged("s5"));
}

#[tokio::test]
async fn too_many_bad_samples_stop_the_run_with_the_first_reason() {
    let mut settings = Settings::default();
    settings.r#loop.quarantine_limit = 0.2;
    for seed in 0..8 {
        let dir = scratch();
        let control = Arc::new(Control::with(torn_clips).delayed(seed));
        let expected = "2 of 8 samples are quarantined in iteration 1, respond, more than the share of 0.2 that \
                        `loop.quarantine_limit` allows; the first reason: s2: moov atom not found";
        let error = run_under(dir.path(), &settings, &control).await.unwrap_err();
        assert!(matches!(error, Error::TooManyQuarantined { quarantined: 2, total: 8, .. }));
        assert_eq!(error.to_string(), expected);
        // Going on is refused for the same reason.
        let again = Arc::new(Control::with(torn_clips));
        let error = run_under(dir.path(), &settings, &again).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(!again.calls().iter().any(|call| call.contains("/s")), "work was done");
    }
}

#[tokio::test]
async fn a_run_with_too_many_bad_samples_goes_on_once_they_are_allowed() {
    let mut settings = Settings::default();
    settings.r#loop.quarantine_limit = 0.5;
    let whole = scratch();
    run_under(whole.path(), &settings, &Arc::new(Control::with(torn_clips))).await.unwrap();

    let dir = scratch();
    settings.r#loop.quarantine_limit = 0.2;
    run_under(dir.path(), &settings, &Arc::new(Control::with(torn_clips))).await.unwrap_err();
    settings.r#loop.quarantine_limit = 0.5;
    run_under(dir.path(), &settings, &Arc::new(Control::with(torn_clips))).await.unwrap();
    assert_same(&tree(whole.path()), &tree(dir.path()), "limit raised");
}
