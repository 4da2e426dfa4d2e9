//! The summary of an iteration, computed from its journals and the ground truth.

use std::collections::{BTreeMap, HashMap};

use isr_api::records::{
    EvaluationRecord, IterationSummary, JudgeSummary, QuarantineRecord, ReasoningSummary, VerdictRecord,
};
use isr_api::{
    Assessment, Choice, ChoiceCounts, ComponentError, Error, Evaluator, LabelledSample, SampleId,
    VisualContext,
};
use serde::Deserialize;

use super::IterativeLoop;
use super::evaluate::{finite, means};
use super::stage::in_iteration;
use super::train::Trained;
use crate::store::{CountedResponse, read_journal};

impl IterativeLoop {
    /// Summarises an iteration, in the leader.
    pub(super) async fn summarise(
        &self,
        t: u32,
        samples: usize,
        trained: Trained,
        evaluation: Option<EvaluationRecord>,
    ) -> Result<IterationSummary, Error> {
        let row = self.summary_row(t, samples, trained, evaluation);
        self.processes.by_leader(row).await
    }

    async fn summary_row(
        &self,
        t: u32,
        samples: usize,
        trained: Trained,
        evaluation: Option<EvaluationRecord>,
    ) -> Result<IterationSummary, Error> {
        let dir = self.parts.store.iteration(t)?;
        let responses: Vec<Answers> = read_journal(&dir.join("responses.jsonl"))?;
        let verdicts: Vec<VerdictRecord> = read_journal(&dir.join("verdicts.jsonl"))?;
        let contexts: Vec<VisualContext> = read_journal(&dir.join("contexts.jsonl"))?;
        let quarantine: Vec<QuarantineRecord> = read_journal(&dir.join("quarantine.jsonl"))?;
        let mut quarantined = BTreeMap::new();
        for record in &quarantine {
            *quarantined.entry(record.stage.clone()).or_insert(0) += 1;
        }
        let stage = in_iteration(t, "measure");
        let evaluator = self.parts.components.evaluator.as_deref().filter(|it| !it.is_costly());
        let audit = match evaluator {
            Some(_) => self.audit().await?,
            None => HashMap::new(),
        };
        let measured = async {
            let contexts = assess_contexts(evaluator, &audit, &responses, &contexts).await?;
            Ok((contexts, judge_summary(evaluator, &audit, &responses, &verdicts).await?))
        };
        let (contexts, judge) = self.interruptible(measured, &stage, "evaluator").await?;
        // Answers of datasets stand for sampled ones where nothing was sampled.
        let scored: Vec<Scored> = match responses.is_empty() {
            true => read_journal(&dir.join("preferences.jsonl"))?,
            false => Vec::new(),
        };
        let sampled = responses.iter().flat_map(|record| &record.responses);
        let answers: Vec<&CountedResponse> =
            sampled.chain(scored.iter().flat_map(|it| &it.responses)).collect();
        let policy = match answers.first() {
            Some(response) => response.policy.clone(),
            None => self.fingerprint()?,
        };
        Ok(IterationSummary {
            iteration: t,
            samples,
            quarantined,
            policy,
            response_tokens: mean(answers.iter().map(|answer| answer.answer_tokens())),
            reasoning: reasoning_summary(&answers),
            contexts,
            judge,
            pairs: trained.pairs,
            training: trained.training,
            evaluation,
        })
    }
}

/// What a summary needs of a [`ResponseRecord`](isr_api::records::ResponseRecord).
#[derive(Deserialize)]
struct Answers {
    sample: SampleId,
    video: String,
    responses: Vec<CountedResponse>,
}

/// What a summary needs of a [`PreferenceRecord`](isr_api::records::PreferenceRecord).
#[derive(Deserialize)]
struct Scored {
    responses: Vec<CountedResponse>,
}

fn mean(lengths: impl Iterator<Item = usize>) -> f64 {
    let (sum, count) = lengths.fold((0, 0_usize), |(sum, count), length| (sum + length, count + 1));
    sum as f64 / count.max(1) as f64
}

/// Statistics of the reasoning; `None` if there is none.
fn reasoning_summary(answers: &[&CountedResponse]) -> Option<ReasoningSummary> {
    let lengths = || answers.iter().filter_map(|answer| answer.reasoning).map(|reasoning| reasoning.tokens);
    let responses = lengths().count();
    (responses > 0).then(|| ReasoningSummary {
        responses,
        tokens: mean(lengths()),
        unanswered: answers.iter().filter(|answer| answer.is_unanswered()).count(),
    })
}

/// Evaluates each context against the facts of the first sample on its video.
async fn assess_contexts(
    evaluator: Option<&dyn Evaluator>,
    audit: &HashMap<SampleId, LabelledSample>,
    responses: &[Answers],
    contexts: &[VisualContext],
) -> Result<BTreeMap<String, f64>, ComponentError> {
    let Some(evaluator) = evaluator else {
        return Ok(BTreeMap::new());
    };
    let mut by_video: HashMap<&str, &LabelledSample> = HashMap::new();
    for record in responses {
        if let Some(labelled) = audit.get(&record.sample) {
            by_video.entry(&record.video).or_insert(labelled);
        }
    }
    let mut assessed = Vec::new();
    for context in contexts {
        let Some(labelled) = by_video.get(context.video.as_str()) else { continue };
        let assessment = known(evaluator.context(labelled, &context.text).await)?;
        assessed.extend(assessment.map(|assessment| assessment.metrics));
    }
    Ok(means(assessed.iter()))
}

/// An assessment; `None` also for a text that cannot be evaluated.
fn known(
    outcome: Result<Option<Assessment>, ComponentError>,
) -> Result<Option<Assessment>, ComponentError> {
    match outcome {
        Err(ComponentError::BadInput(_)) => Ok(None),
        outcome => finite(outcome?),
    }
}

async fn judge_summary(
    evaluator: Option<&dyn Evaluator>,
    audit: &HashMap<SampleId, LabelledSample>,
    responses: &[Answers],
    verdicts: &[VerdictRecord],
) -> Result<JudgeSummary, ComponentError> {
    if verdicts.is_empty() {
        return Ok(JudgeSummary::default());
    }
    let by_sample: HashMap<_, _> = responses.iter().map(|record| (&record.sample, record)).collect();
    let (mut truth, mut longer) = (ChoiceCounts::default(), ChoiceCounts::default());
    for verdict in verdicts {
        let Some(record) = by_sample.get(&verdict.sample) else { continue };
        let [first, second] = verdict.compared.map(|index| &record.responses[index]);
        let choice = verdict.verdict.choice();
        let tokens = |answer: &CountedResponse| answer.answer_tokens() as f64;
        longer.add(choice, Choice::of_difference(tokens(first) - tokens(second)));
        let Some((evaluator, labelled)) = evaluator.zip(audit.get(&verdict.sample)) else { continue };
        let first = known(evaluator.answer(labelled, &first.text).await)?;
        let second = known(evaluator.answer(labelled, &second.text).await)?;
        if let Some((first, second)) = first.zip(second) {
            truth.add(choice, Choice::of_difference(first.quality - second.quality));
        }
    }
    let count = verdicts.len().max(1) as f64;
    Ok(JudgeSummary {
        verdicts: verdicts.len(),
        ties: verdicts.iter().filter(|record| record.verdict.choice() == Choice::Tie).count(),
        agreement: truth.agreement(),
        agreement_of: truth.n(),
        position_consistency: verdicts.iter().filter(|record| record.verdict.consistent).count() as f64
            / count,
        longer_preferred: longer.agreement(),
        longer_preferred_of: longer.n(),
        oracle: verdicts.iter().any(|record| record.oracle),
        margin: verdicts.iter().map(|record| record.verdict.margin()).sum::<f64>() / count,
    })
}
