//! Judging the responses of each sample: two of them, or all with each other.

use std::sync::Arc;

use futures::future::try_join_all;
use isr_api::records::{ComparisonRecord, ResponseRecord, VerdictRecord};
use isr_api::{
    ComponentError, Error, FrozenPolicy, Judge, JudgeCase, Response, Stage, Streams, VisualContext,
};
use rand::seq::SliceRandom;
use serde::Serialize;

use super::IterativeLoop;
use super::ranking::best_and_worst;
use super::resume::Contexts;
use super::stage::{StageItem, StagePlan, StageRecord};
use crate::scenes::VideoCache;

/// Different responses to judge, by their places.
#[derive(Serialize)]
struct Contest<'a> {
    record: &'a ResponseRecord,
    different: Vec<usize>,
    context: Option<&'a VisualContext>,
}

impl StageItem for Contest<'_> {
    fn subject(&self) -> &str {
        self.record.sample.as_str()
    }
}

impl StageRecord for VerdictRecord {
    fn subject(&self) -> &str {
        self.sample.as_str()
    }
}

impl IterativeLoop {
    /// Judges the different responses of each sample: p(y1 > y2 | V, x, c_t). Of more than two, the verdict
    /// is on the best and the worst.
    pub(super) async fn judge(
        &self,
        t: u32,
        responses: &[ResponseRecord],
        contexts: &Contexts,
    ) -> Result<Vec<VerdictRecord>, Error> {
        let lent = self.parts.settings.mismatched_contexts.then(|| self.lent(t, contexts));
        let contexts = lent.as_ref().unwrap_or(contexts);
        let mut contests = Vec::new();
        for record in responses {
            let context = contexts.get(&record.video);
            // Without one although a retrospector runs, its video was quarantined.
            let may_judge = context.is_some() || self.parts.components.retrospector.is_none();
            let different = different(&record.responses);
            if different.len() > 1 && may_judge {
                contests.push(Contest { record, different, context });
            }
        }
        let plan = StagePlan {
            iteration: t,
            stage: Stage::Judge,
            journal: "verdicts.jsonl",
            population: responses.len(),
            shared: self.shared_name(Stage::Judge, t, &contests),
        };
        self.run_stage(plan, contests, |Contest { record, different, context }| {
            let bench = Bench {
                record: record.clone(),
                context: context.cloned(),
                scenes: Arc::clone(&self.scenes),
                judge: Arc::clone(&self.parts.components.judge),
                policy: self.frozen.clone(),
                seed: self.streams.seed(t, Stage::Judge.name(), record.sample.as_str()),
            };
            let oracle = self.parts.oracle;
            async move {
                let rounds = bench.rounds(&different).await?;
                let (ComparisonRecord { compared, seed, verdict }, rounds) = best_and_worst(rounds)?;
                let Bench { record, context: shown, .. } = bench;
                let context = shown.as_ref().map(|shown| shown.iteration);
                let context_of = shown.map(|shown| shown.video).filter(|video| *video != record.video);
                let sample = record.sample;
                Ok(VerdictRecord { sample, seed, context, context_of, compared, verdict, rounds, oracle })
            }
        })
        .await
    }
}

impl IterativeLoop {
    /// For each video the context of the next in a random round.
    fn lent(&self, t: u32, contexts: &Contexts) -> Contexts {
        let mut round: Vec<&String> = contexts.keys().collect();
        round.sort();
        round.shuffle(&mut self.streams.rng(t, "mismatched contexts", ""));
        let next = round.iter().cycle().skip(1);
        round.iter().zip(next).map(|(video, next)| ((*video).clone(), contexts[*next].clone())).collect()
    }
}

/// What the responses of one sample are judged with.
struct Bench {
    record: ResponseRecord,
    context: Option<VisualContext>,
    scenes: Arc<VideoCache>,
    judge: Arc<dyn Judge>,
    policy: FrozenPolicy,
    seed: u64,
}

impl Bench {
    /// Judges each response with each other one.
    async fn rounds(&self, different: &[usize]) -> Result<Vec<ComparisonRecord>, ComponentError> {
        let (pairs, places) = (different.len() * (different.len() - 1) / 2, different.iter().enumerate());
        let pair = places.flat_map(|(at, &one)| different[at + 1..].iter().map(move |&other| [one, other]));
        try_join_all(pair.map(|compared| self.round(compared, pairs))).await
    }

    async fn round(&self, compared: [usize; 2], of: usize) -> Result<ComparisonRecord, ComponentError> {
        let [one, other] = compared;
        let seed = match of {
            1 => self.seed,
            _ => Streams::new(self.seed).seed(0, "round", &format!("{one}-{other}")),
        };
        let case = JudgeCase {
            scene: self.scenes.open(self.record.video.as_ref()).await?,
            instruction: self.record.instruction.clone(),
            context: self.context.clone(),
            first: self.record.responses[one].clone(),
            second: self.record.responses[other].clone(),
            seed,
        };
        let verdict = self.judge.judge(&case, &self.policy).await?;
        verdict.check()?;
        Ok(ComparisonRecord { compared, seed, verdict })
    }
}

/// The two responses that a judge of two compares: the first, and the first whose text differs from it.
pub fn first_difference(responses: &[Response]) -> Option<[usize; 2]> {
    match *different(responses) {
        [one, other, ..] => Some([one, other]),
        _ => None,
    }
}

/// The places of the responses whose texts differ, each text once.
pub(super) fn different(responses: &[Response]) -> Vec<usize> {
    let text = |at: usize| responses[at].text.trim();
    let mut places: Vec<usize> = Vec::new();
    for at in 0..responses.len() {
        if places.iter().all(|&other| text(other) != text(at)) {
            places.push(at);
        }
    }
    places
}
