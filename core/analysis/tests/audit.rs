//! Audits of run directories that are written through the record types of `isr-api`.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::fs;
use std::path::Path;

use isr_analysis::audit::{AuditError, JudgeAudit, audit};
use isr_api::records::{QuarantineRecord, ResponseRecord, VerdictRecord};
use isr_api::{Fingerprint, FinishReason, Response, SampleId, Verdict, Vote};
use serde::Serialize;
use tempfile::tempdir;

/// Whether the first answer is the longer one, and the probabilities of two votes.
type Case = (bool, [f64; 2]);

/// In each case the answer that says `true` is right, and it is the first one of even samples.
const CASES: [Case; 8] = [
    (true, [0.9, 0.8]),
    (true, [0.3, 0.2]),
    (false, [0.9, 0.7]),
    (false, [0.8, 0.1]),
    (true, [0.7, 0.6]),
    (false, [0.1, 0.2]),
    (true, [0.6, 0.9]),
    (true, [0.5, 0.5]),
];

fn journal<T: Serialize>(folder: &Path, name: &str, lines: impl IntoIterator<Item = T>) {
    fs::create_dir_all(folder).unwrap();
    let text: String = lines.into_iter().map(|line| serde_json::to_string(&line).unwrap() + "\n").collect();
    fs::write(folder.join(name), text).unwrap();
}

fn sample(index: usize) -> SampleId {
    SampleId(format!("clip-{index}/q"))
}

fn answers(index: usize, first_is_longer: bool) -> ResponseRecord {
    let word = |right: bool| if right { "true" } else { "false" };
    let [first, second] = [word(index.is_multiple_of(2)), word(!index.is_multiple_of(2))];
    let texts = match first_is_longer {
        true => [format!("{first} and so on"), second.to_owned()],
        false => [first.to_owned(), format!("{second} and so on")],
    };
    let response = |text: String| Response {
        // A token a word.
        token_ids: text.split(' ').map(|_| 1).collect(),
        logprobs: text.split(' ').map(|_| -0.5).collect(),
        text,
        finish_reason: FinishReason::Stop,
        policy: Fingerprint::of("policy"),
        reasoning: None,
    };
    ResponseRecord {
        sample: sample(index),
        video: "clip.mp4".to_owned(),
        instruction: "is it?".to_owned(),
        seed: 0,
        responses: texts.map(response).to_vec(),
    }
}

fn verdict(index: usize, [shown_first, shown_second]: [f64; 2]) -> VerdictRecord {
    let vote = |first_shown_first, p_first| Vote { first_shown_first, p_first };
    let votes = vec![vote(true, shown_first), vote(false, shown_second)];
    VerdictRecord {
        sample: sample(index),
        seed: 0,
        context_of: None,
        context: None,
        compared: [0, 1],
        verdict: Verdict::from_votes(votes),
        comparisons: Vec::new(),
        oracle: false,
    }
}

fn write_run(run: &Path) {
    let folder = run.join("iteration-01");
    let cases = || CASES.iter().enumerate();
    journal(&folder, "responses.jsonl", cases().map(|(index, (longer, _))| answers(index, *longer)));
    journal(&folder, "verdicts.jsonl", cases().map(|(index, (_, votes))| verdict(index, *votes)));
    let failure = |stage: &str, subject: &str, reason: &str| QuarantineRecord {
        stage: stage.to_owned(),
        subject: subject.to_owned(),
        reason: reason.to_owned(),
    };
    let failures = [
        failure("judge", "a", "the reply names no choice"),
        failure("judge", "b", "the reply names no choice"),
        failure("respond", "c", "the video is truncated"),
    ];
    journal(&folder, "quarantine.jsonl", failures);
    fs::write(
        run.join("timings.jsonl"),
        "{\"iteration\":1,\"stage\":\"judge\",\"seconds\":2.5}\n{\"iteration\":1,\"stage\":\"train\",\"seconds\":9}\n\
         {\"iteration\":1,\"stage\":\"judge\",\"seconds\":0.5}\n{\"iteration\":2,\"stage\":\"judge\",\"seconds\":7}\n",
    )
    .unwrap();
}

fn facts(_: &SampleId, answer: &str) -> Option<f64> {
    Some(if answer.starts_with("true") { 1.0 } else { 0.0 })
}

fn nothing(_: &SampleId, _: &str) -> Option<f64> {
    None
}

fn only(judges: &[JudgeAudit]) -> &JudgeAudit {
    assert_eq!(judges.len(), 1, "{judges:?}");
    &judges[0]
}

#[test]
fn a_runs_own_judge_is_measured_from_its_journals() {
    let folder = tempdir().unwrap();
    write_run(folder.path());
    let found = audit(folder.path(), &[], &facts).unwrap();
    let judge = only(&found.judges);
    assert_eq!((judge.iteration, judge.judge.as_str(), judge.verdicts, judge.ties), (1, "run", 8, 1));
    // It prefers the first of 0, 2, 4, 6 (right, as the first of even samples is), and the second of 1, 3, 5
    // (right again); 3 by a mean of 0.45, and 7 is a tie.
    let truth = judge.truth.as_ref().unwrap();
    assert_eq!((truth.n, truth.ties, truth.agree, truth.kappa), (7, 1, Some(1.0), Some(1.0)));
    assert_eq!((judge.position.both_orders, judge.position.consistent), (8, Some(7.0 / 8.0)));
    // Votes: seven pairs, of which six are consistent (one vote each way) and one takes what is shown first.
    assert_eq!((judge.position.votes, judge.position.first_shown), (14, Some(8.0 / 14.0)));
    // The longer answer: yes for 0, 3, 4, 5, 6; no for 1 and 2.
    assert_eq!((judge.length.unequal, judge.length.longer_preferred), (7, Some(5.0 / 7.0)));
    assert_eq!((judge.failures.count, judge.failures.share), (2, Some(0.2)));
    assert_eq!(judge.failures.reasons["the reply names no choice"], 2);
    assert_eq!(judge.seconds, Some(3.0));
    assert!(judge.run_judge.is_none() && judge.people.is_none());
}

#[test]
fn what_is_not_known_is_null() {
    let folder = tempdir().unwrap();
    write_run(folder.path());
    fs::remove_file(folder.path().join("timings.jsonl")).unwrap();
    fs::remove_file(folder.path().join("iteration-01/quarantine.jsonl")).unwrap();
    let found = serde_json::to_value(audit(folder.path(), &[], &nothing).unwrap()).unwrap();
    let judge = &found["judges"][0];
    for key in ["truth", "run_judge", "people", "seconds"] {
        assert!(judge[key].is_null(), "{key}: {judge}");
    }
    assert_eq!(judge["failures"]["count"], 0);
}

#[test]
fn people_are_compared_one_by_one_without_their_ties() {
    let folder = tempdir().unwrap();
    write_run(folder.path());
    let line = |index: usize, choice: &str, who: &str| {
        format!(
            "{{\"iteration\":1,\"sample\":\"clip-{index}/q\",\"choice\":\"{choice}\",\"annotator\":\"{who}\",\
             \"first_shown_first\":true,\"seconds\":1}}"
        )
    };
    let lines = [
        line(0, "first", "X"),
        line(0, "second", "Y"),
        line(1, "second", "X"),
        line(2, "tie", "X"),
        line(7, "first", "X"),
    ];
    fs::write(folder.path().join("annotations.jsonl"), lines.join("\n") + "\n").unwrap();
    let found = audit(folder.path(), &[], &nothing).unwrap();
    let people = only(&found.judges).people.clone().unwrap();
    assert_eq!((people.n, people.ties, people.agree), (3, 2, Some(2.0 / 3.0)));
}

#[test]
fn another_judge_is_compared_with_the_runs_on_the_same_answers() {
    let folder = tempdir().unwrap();
    let (run, other) = (folder.path().join("run"), folder.path().join("other"));
    write_run(&run);
    let verdicts = [(0, [0.1, 0.2]), (1, [0.1, 0.1]), (2, [0.9, 0.9]), (7, [0.9, 0.9])];
    let dir = other.join("iteration-01");
    journal(&dir, "verdicts.jsonl", verdicts.map(|(index, votes)| verdict(index, votes)));
    let found = audit(&run, std::slice::from_ref(&other), &facts).unwrap();
    let [own, theirs] = found.judges.as_slice() else { panic!("{found:?}") };
    assert_eq!((own.judge.as_str(), theirs.judge.as_str(), theirs.verdicts), ("run", "other", 4));
    let with_run = theirs.run_judge.clone().unwrap();
    assert_eq!((with_run.n, with_run.ties, with_run.agree), (3, 1, Some(2.0 / 3.0)));
    // Wrong about 0 and 7, right about 1 and 2.
    assert_eq!(theirs.truth.as_ref().unwrap().agree, Some(0.5));

    // The same answers in each other's place, as another run may have sampled them: verdicts are turned.
    let turned = |index: usize| {
        let mut answers = answers(index, CASES[index].0);
        answers.responses.reverse();
        answers
    };
    journal(&dir, "responses.jsonl", [0, 1, 2, 7].map(turned));
    let found = audit(&run, std::slice::from_ref(&other), &facts).unwrap();
    assert_eq!(found.judges[1].run_judge.as_ref().unwrap().agree, Some(1.0 / 3.0));

    // Below `audits/` it need not be named.
    fs::create_dir(run.join("audits")).unwrap();
    fs::rename(&other, run.join("audits/other")).unwrap();
    assert_eq!(audit(&run, &[], &facts).unwrap().judges, found.judges);
}

#[test]
fn a_judge_that_failed_on_every_case_is_a_row_and_a_strangers_folder_is_none() {
    let folder = tempdir().unwrap();
    let run = folder.path().join("run");
    write_run(&run);
    let blind = run.join("audits/blind/iteration-01");
    journal(&blind, "verdicts.jsonl", std::iter::empty::<VerdictRecord>());
    let failed = |index: usize| QuarantineRecord {
        stage: "judge".to_owned(),
        subject: format!("clip-{index}/q"),
        reason: "no choice".to_owned(),
    };
    journal(&blind, "quarantine.jsonl", (0..8).map(failed));
    let mut strangers = answers(0, true);
    strangers.responses[0].text = "something else".to_owned();
    let other = run.join("audits/strange/iteration-01");
    journal(&other, "responses.jsonl", [strangers]);
    journal(&other, "verdicts.jsonl", [verdict(0, [0.1, 0.1])]);

    let found = audit(&run, &[], &facts).unwrap();
    let [own, theirs] = found.judges.as_slice() else { panic!("{found:?}") };
    assert_eq!((own.verdicts, theirs.judge.as_str(), theirs.verdicts), (8, "blind", 0));
    assert_eq!((theirs.failures.count, theirs.failures.share), (8, Some(1.0)));
    assert_eq!((theirs.run_judge.as_ref().unwrap().n, &theirs.truth), (0, &None));
}

#[test]
fn what_cannot_be_audited_is_named() {
    let folder = tempdir().unwrap();
    let (run, other) = (folder.path().join("run"), folder.path().join("other"));
    let error = audit(&run, &[], &nothing).unwrap_err();
    assert!(
        matches!(error, AuditError::NoVerdicts { .. }) && error.to_string().contains("run has no verdicts")
    );
    write_run(&run);
    let mut strangers = answers(0, true);
    strangers.responses[0].text = "something else".to_owned();
    journal(&other.join("iteration-01"), "responses.jsonl", [strangers]);
    journal(&other.join("iteration-01"), "verdicts.jsonl", [verdict(0, [0.1, 0.1])]);
    let error = audit(&run, std::slice::from_ref(&other), &nothing).unwrap_err();
    assert!(matches!(error, AuditError::OtherAnswers { .. }), "{error}");
    fs::write(run.join("iteration-01/responses.jsonl"), "").unwrap();
    let error = audit(&run, &[], &nothing).unwrap_err().to_string();
    assert!(error.contains("no two answers of sample `clip-0/q`"), "{error}");
    fs::write(run.join("annotations.jsonl"), "{\"iteration\":1}\n").unwrap();
    let error = audit(&run, &[], &nothing).unwrap_err().to_string();
    assert!(error.contains("annotations.jsonl is damaged: line 1"), "{error}");
}
