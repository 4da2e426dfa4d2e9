//! A policy that reasons before it answers: what is trained on, and what is judged and measured.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_api::records::{PairRecord, ResponseRecord, VerdictRecord, iteration_metrics};
use isr_api::{ComponentError, Continuation, FrozenPolicy, Judge, JudgeCase, Reasoning, Response, Verdict};
use isr_run::store::read_journal;

use crate::bench::{Fakes, Settings, run_with, scratch};

/// Takes the first word of what was sampled for reasoning; of one word, nothing is left.
fn reasons(responses: &mut Vec<Response>) {
    for response in responses {
        let (reasoning, answer) = match response.text.split_once(' ') {
            Some((reasoning, answer)) => (reasoning.to_owned(), answer.to_owned()),
            None => (response.text.clone(), String::new()),
        };
        response.reasoning = Some(Reasoning { text: reasoning, tokens: 1 });
        response.text = answer;
    }
}

/// Prefers the answer of more tokens, and keeps what it was shown.
#[derive(Default)]
struct Longer(Mutex<Vec<Response>>);

#[async_trait]
impl Judge for Longer {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        self.0.lock().unwrap().extend([case.first.clone(), case.second.clone()]);
        let longer = case.first.token_ids.len() > case.second.token_ids.len();
        Ok(Verdict::of(if longer { 0.75 } else { 0.25 }))
    }
}

#[tokio::test]
async fn reasoning_is_trained_on_and_neither_judged_nor_measured() {
    let (dir, mut settings) = (scratch(), Settings::default());
    (settings.r#loop.iterations, settings.r#loop.responses) = (1, 3);
    let (mut fakes, judge) = (Fakes::new(&Arc::default()), Arc::new(Longer::default()));
    *fakes.policy.quirk.lock().unwrap() = Some(reasons);
    fakes.components.judge = judge.clone();
    let policy = Arc::clone(&fakes.policy);
    let summary = run_with(dir.path(), &settings, fakes.components).await.unwrap();

    let folder = dir.path().join("iteration-01");
    let records: Vec<ResponseRecord> = read_journal(&folder.join("responses.jsonl")).unwrap();
    let all = || records.iter().flat_map(|record| &record.responses);
    let unanswered = all().filter(|response| response.is_unanswered()).count();
    assert!(unanswered > 0 && unanswered < all().count(), "some are of one word: {unanswered}");

    // The judge sees answers, and no response without one.
    let shown = judge.0.lock().unwrap().clone();
    assert!(!shown.is_empty());
    for response in shown {
        assert!(response.reasoning.is_none() && !response.text.is_empty());
        let words = response.text.split(' ').count();
        assert_eq!((response.token_ids.len(), response.logprobs.len()), (words, words));
    }
    let verdicts: Vec<VerdictRecord> = read_journal(&folder.join("verdicts.jsonl")).unwrap();
    let answered = |record: &&ResponseRecord| {
        let mut texts: Vec<_> = record.responses.iter().map(|it| &it.text).collect();
        texts.sort();
        texts.dedup();
        texts.iter().filter(|text| !text.is_empty()).count() > 1
    };
    assert_eq!(verdicts.len(), records.iter().filter(answered).count());

    // Pairs are answers; their tokens are trained on whole.
    let pairs: Vec<PairRecord> = read_journal(&folder.join("pairs.jsonl")).unwrap();
    assert!(!pairs.is_empty());
    for pair in &pairs {
        let record = records.iter().find(|record| record.sample == pair.id).unwrap();
        let [chosen, rejected] = [pair.chosen_index, pair.rejected_index].map(|at| &record.responses[at]);
        assert_eq!((&chosen.text, &rejected.text), (&pair.chosen, &pair.rejected));
        let steps = policy.steps.lock().unwrap();
        let mut targets = steps.iter().flat_map(|step| &step.examples).map(|it| &it.chosen.continuation);
        assert!(targets.any(|tokens| *tokens == Continuation::Tokens(chosen.token_ids.clone())));
    }

    let row = &summary.iterations[0];
    let count = all().count() as f64;
    assert_eq!(row.response_tokens, all().map(Response::answer_tokens).sum::<usize>() as f64 / count);
    let reasoning = row.reasoning.as_ref().unwrap();
    assert_eq!((reasoning.responses as f64, reasoning.tokens), (count, 1.0));
    assert_eq!(reasoning.unanswered, unanswered);
    let metrics = iteration_metrics(row);
    assert_eq!(metrics["responses.reasoning_tokens"], 1.0);
    assert_eq!(metrics["responses.unanswered"], unanswered as f64);
    assert!(metrics["sampled.unanswered"] < 1.0 && metrics["greedy.reasoning_tokens"] == 1.0);
    assert_eq!(metrics["greedy.response_tokens"], 2.0, "three words, of which one is reasoning");
}

#[tokio::test]
async fn samples_without_two_answers_are_dropped_and_counted() {
    let (dir, mut settings) = (scratch(), Settings::default());
    settings.r#loop.iterations = 1;
    let fakes = Fakes::new(&Arc::default());
    *fakes.policy.quirk.lock().unwrap() = Some(reasons);
    let summary = run_with(dir.path(), &settings, fakes.components).await.unwrap();
    let folder = dir.path().join("iteration-01");
    let records: Vec<ResponseRecord> = read_journal(&folder.join("responses.jsonl")).unwrap();
    let cut = records.iter().filter(|it| it.responses.iter().any(Response::is_unanswered)).count();
    assert!(cut > 0);
    assert_eq!(summary.iterations[0].pairs.dropped["cut while reasoning"], cut);
    assert!(
        read_journal::<VerdictRecord>(&folder.join("verdicts.jsonl")).unwrap().len() <= records.len() - cut
    );
}
