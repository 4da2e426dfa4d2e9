//! The evaluation stage: metrics of greedy and of sampled responses to held-out samples.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use isr_api::records::{AnswerRecord, EvaluationRecord};
use isr_api::{
    Assessment, ComponentError, Error, Evaluator, Event, LabelledSample, Prompt, Response, Sampling, Stage,
    video_key,
};

use super::IterativeLoop;
use super::record::{StageItem, StageRecord};
use super::resume::{LoopData, Progress};
use super::sampling::{check_instruction, check_responses};
use super::stage::StagePlan;
use crate::look::Look;
use crate::store::{StageMarks, read_json, write_json};

impl StageItem for LabelledSample {
    fn subject(&self) -> &str {
        self.sample.id.as_str()
    }

    fn video(&self) -> Cow<'_, str> {
        Cow::Owned(video_key(&self.sample.video))
    }
}

impl StageRecord for AnswerRecord {
    fn subject(&self) -> &str {
        self.sample.as_str()
    }
}

impl IterativeLoop {
    /// Evaluates the initial policy if `evaluation.base` is set and it was not evaluated before.
    pub(super) async fn measure_base(&self, data: &LoopData, progress: &mut Progress) -> Result<(), Error> {
        if !self.parts.evaluation.base || progress.summary.base.is_some() || progress.next_iteration() > 1 {
            return Ok(());
        }
        progress.summary.base = self.evaluate(0, data).await?;
        self.write_summary(&progress.summary)?;
        if let Some(evaluation) = &progress.summary.base {
            self.observe(&Event::BaseEvaluated { evaluation });
        }
        Ok(())
    }

    /// Evaluates the current policy; `None` without an evaluator or held-out samples.
    pub(super) async fn evaluate(
        &self,
        t: u32,
        data: &LoopData,
    ) -> Result<Option<EvaluationRecord>, Error> {
        let Some(evaluator) =
            self.parts.components.evaluator.clone().filter(|_| !data.evaluation.is_empty())
        else {
            return Ok(None);
        };
        let dir = self.parts.store.iteration(t)?;
        let path = dir.join("evaluation.json");
        let done = self.processes.by_leader(async {
            let done: Option<EvaluationRecord> = read_json(&path)?;
            if done.is_some() {
                StageMarks::read(&dir)?.check(&dir, Stage::Evaluate.name())?;
            }
            Ok(done)
        });
        if let Some(done) = done.await? {
            return Ok(Some(done));
        }
        let held_out = match self.parts.evaluation.intermediate_samples {
            Some(count) if (1..self.parts.settings.iterations).contains(&t) => {
                &data.evaluation[..count.min(data.evaluation.len())]
            }
            _ => data.evaluation.as_slice(),
        };
        let answers = self.answer_all(t, held_out, evaluator).await?;
        let record = EvaluationRecord {
            samples: answers.len(),
            quarantined: held_out.len() - answers.len(),
            policy: self.fingerprint()?,
            greedy: means(answers.iter().map(|answer| &answer.greedy_metrics)),
            sampled: means(answers.iter().map(|answer| &answer.sampled_metrics)),
        };
        if self.processes.leads() {
            write_json(&path, &record)?;
        }
        Ok(Some(record))
    }

    async fn answer_all(
        &self,
        t: u32,
        held_out: &[LabelledSample],
        evaluator: Arc<dyn Evaluator>,
    ) -> Result<Vec<AnswerRecord>, Error> {
        let plan = StagePlan {
            iteration: t,
            stage: Stage::Evaluate,
            journal: "evaluation.jsonl",
            population: held_out.len(),
            // All iterations use the random streams of iteration 0.
            cache_key: self.cache_key(Stage::Evaluate, 0, &held_out),
        };
        let max_new_tokens = self.parts.evaluation.max_new_tokens;
        self.run_stage(plan, held_out.iter().collect(), |labelled: &LabelledSample| {
            let labelled = labelled.clone();
            let (videos, policy) = (Arc::clone(&self.videos), self.frozen.clone());
            let evaluator = Arc::clone(&evaluator);
            // The same stream in all iterations: policies are compared with common random numbers.
            let seed = self.streams.seed(0, Stage::Evaluate.name(), labelled.sample.id.as_str());
            let sampling = Sampling { max_new_tokens, ..self.parts.settings.sampling.clone() };
            async move {
                let sample = &labelled.sample;
                check_instruction(&sample.instruction)?;
                let scene = videos.open(&sample.video, Look::Fixed).await?;
                let prompt = Prompt::about(&scene, sample.instruction.clone());
                let greedy = policy.answer(prompt.clone(), Sampling::greedy(max_new_tokens), seed);
                let sampled = policy.answer(prompt, sampling, seed);
                let (greedy, sampled) = futures::try_join!(greedy, sampled)?;
                check_responses(std::slice::from_ref(&greedy), 1)?;
                check_responses(std::slice::from_ref(&sampled), 1)?;
                let greedy_metrics = metrics(evaluator.as_ref(), &labelled, &greedy);
                let sampled_metrics = metrics(evaluator.as_ref(), &labelled, &sampled);
                let (greedy_metrics, sampled_metrics) =
                    futures::try_join!(greedy_metrics, sampled_metrics)?;
                Ok(AnswerRecord {
                    sample: sample.id.clone(),
                    video: video_key(&sample.video),
                    instruction: sample.instruction.clone(),
                    greedy_metrics,
                    sampled_metrics,
                    greedy,
                    sampled,
                })
            }
        })
        .await
    }
}

async fn metrics(
    evaluator: &dyn Evaluator,
    sample: &LabelledSample,
    response: &Response,
) -> Result<BTreeMap<String, f64>, ComponentError> {
    let assessment = finite(evaluator.answer(sample, &response.text).await?)?;
    let mut metrics = assessment.map(|assessment| assessment.metrics).unwrap_or_default();
    metrics.insert("response_tokens".to_owned(), response.answer_tokens() as f64);
    if let Some(reasoning) = &response.reasoning {
        metrics.insert("reasoning_tokens".to_owned(), reasoning.tokens as f64);
        metrics.insert("unanswered".to_owned(), f64::from(u8::from(response.is_unanswered())));
    }
    Ok(metrics)
}

/// Rejects NaN and infinities, which JSON cannot hold.
pub(super) fn finite(assessment: Option<Assessment>) -> Result<Option<Assessment>, ComponentError> {
    let Some(Assessment { quality, metrics }) = &assessment else { return Ok(None) };
    let figures = metrics.iter().map(|(name, value)| (name.as_str(), *value));
    for (name, value) in figures.chain([("quality", *quality)]) {
        if !value.is_finite() {
            return Err(ComponentError::failed(format!("the evaluator says that `{name}` is {value}")));
        }
    }
    Ok(assessment)
}

/// Mean of each metric over the records that have it.
pub(super) fn means<'a>(records: impl Iterator<Item = &'a BTreeMap<String, f64>>) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (f64, usize)> = BTreeMap::new();
    for (name, value) in records.flatten() {
        let sum = sums.entry(name.clone()).or_default();
        *sum = (sum.0 + value, sum.1 + 1);
    }
    sums.into_iter().map(|(name, (sum, count))| (name, sum / count as f64)).collect()
}
