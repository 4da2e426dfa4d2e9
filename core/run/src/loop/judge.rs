//! The judge stage: compares the responses to each sample, either two of them or all pairs.

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::try_join_all;
use isr_api::records::{ComparisonRecord, ResponseRecord, VerdictRecord};
use isr_api::{ComponentError, Error, FrozenPolicy, Judge, JudgeCase, Stage, Streams, VisualContext};
use rand::seq::SliceRandom;
use serde::Serialize;

use super::IterativeLoop;
use super::ranking::best_and_worst;
use super::record::{StageItem, StageRecord};
use super::resume::Contexts;
use super::stage::StagePlan;
use crate::look::Look;
use crate::store::distinct_responses;
use crate::video_cache::VideoCache;

/// The distinct responses to one sample, by index. Its JSON form is part of the stage's cache key.
#[derive(Serialize)]
struct JudgeItem<'a> {
    record: &'a ResponseRecord,
    #[serde(rename = "different")]
    distinct: Vec<usize>,
    context: Option<&'a VisualContext>,
}

impl StageItem for JudgeItem<'_> {
    fn subject(&self) -> &str {
        self.record.sample.as_str()
    }

    fn video(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.record.video)
    }
}

impl StageRecord for VerdictRecord {
    fn subject(&self) -> &str {
        self.sample.as_str()
    }
}

impl IterativeLoop {
    /// Judges the distinct responses to each sample: p(y1 > y2 | V, x, c_t). With more than two, the verdict
    /// is that on the best and the worst.
    pub(super) async fn judge(
        &self,
        t: u32,
        responses: &[ResponseRecord],
        contexts: &Contexts,
    ) -> Result<Vec<VerdictRecord>, Error> {
        let exchanges = self.parts.settings.mismatched_contexts;
        let mismatched = exchanges.then(|| self.exchanged(t, "mismatched contexts", contexts));
        let contexts = mismatched.as_ref().unwrap_or(contexts);
        let mut items = Vec::new();
        for record in responses {
            let context = contexts.get(&record.video);
            // With a retrospector, a video without a context was quarantined.
            let may_judge = context.is_some() || self.parts.components.retrospector.is_none();
            let distinct = distinct_responses(&record.responses);
            if distinct.len() > 1 && may_judge {
                items.push(JudgeItem { record, distinct, context });
            }
        }
        let plan = StagePlan {
            iteration: t,
            stage: Stage::Judge,
            journal: "verdicts.jsonl",
            population: responses.len(),
            cache_key: self.cache_key(Stage::Judge, t, &items),
        };
        self.run_stage(plan, items, |JudgeItem { record, distinct, context }| {
            let task = JudgeTask {
                record: record.clone(),
                context: context.cloned(),
                videos: Arc::clone(&self.videos),
                look: self.look(t),
                judge: Arc::clone(&self.parts.components.judge),
                policy: self.frozen.clone(),
                seed: self.streams.seed(t, Stage::Judge.name(), record.sample.as_str()),
            };
            let oracle = self.parts.oracle;
            async move {
                let all = task.compare_all(&distinct).await?;
                let (ComparisonRecord { compared, seed, verdict }, comparisons) = best_and_worst(all)?;
                let JudgeTask { record, context: shown, .. } = task;
                let context = shown.as_ref().map(|shown| shown.iteration);
                let context_of = shown.map(|shown| shown.video).filter(|video| *video != record.video);
                let sample = record.sample;
                Ok(VerdictRecord {
                    sample,
                    seed,
                    context,
                    context_of,
                    compared,
                    verdict,
                    comparisons,
                    oracle,
                })
            }
        })
        .await
    }

    /// Exchanges contexts for a control: shuffles the videos into a cycle by a random stream of this name, and gives each the
    /// context of the next one.
    pub(super) fn exchanged(&self, t: u32, stream: &str, contexts: &Contexts) -> Contexts {
        let mut cycle: Vec<&String> = contexts.keys().collect();
        cycle.sort();
        cycle.shuffle(&mut self.streams.rng(t, stream, ""));
        let next = cycle.iter().cycle().skip(1);
        cycle.iter().zip(next).map(|(video, next)| ((*video).clone(), contexts[*next].clone())).collect()
    }
}

/// Everything that judging one item needs, owned by its task.
struct JudgeTask {
    record: ResponseRecord,
    context: Option<VisualContext>,
    videos: Arc<VideoCache>,
    look: Look,
    judge: Arc<dyn Judge>,
    policy: FrozenPolicy,
    seed: u64,
}

impl JudgeTask {
    /// Judges all n (n - 1) / 2 pairs of the responses with these indices, concurrently.
    async fn compare_all(&self, distinct: &[usize]) -> Result<Vec<ComparisonRecord>, ComponentError> {
        let (pairs, places) = (distinct.len() * (distinct.len() - 1) / 2, distinct.iter().enumerate());
        let pair = places.flat_map(|(at, &one)| distinct[at + 1..].iter().map(move |&other| [one, other]));
        try_join_all(pair.map(|compared| self.compare(compared, pairs))).await
    }

    /// Judges one pair. A single pair uses the item's own seed; several derive one each.
    async fn compare(
        &self,
        compared: [usize; 2],
        pairs: usize,
    ) -> Result<ComparisonRecord, ComponentError> {
        let [one, other] = compared;
        let seed = match pairs {
            1 => self.seed,
            _ => Streams::new(self.seed).seed(0, "round", &format!("{one}-{other}")),
        };
        let case = JudgeCase {
            scene: self.videos.open(self.record.video.as_ref(), self.look).await?,
            instruction: self.record.instruction.clone(),
            context: self.context.clone(),
            first: self.record.responses[one].answer_alone(),
            second: self.record.responses[other].answer_alone(),
            seed,
        };
        let verdict = self.judge.judge(&case, &self.policy).await?;
        verdict.check()?;
        Ok(ComparisonRecord { compared, seed, verdict })
    }
}
