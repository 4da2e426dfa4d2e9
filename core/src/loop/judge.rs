//! Judging two responses of each sample.

use std::sync::Arc;

use super::IterativeLoop;
use super::resume::Contexts;
use super::stage::{StageItem, StagePlan, StageRecord};
use crate::error::{ComponentError, Error};
use crate::judge::{JudgeCase, Verdict};
use crate::observer::Stage;
use crate::response::Response;
use crate::retrospector::VisualContext;
use crate::store::{ResponseRecord, VerdictRecord};

/// Two different responses to judge.
struct Contest<'a> {
    record: &'a ResponseRecord,
    compared: [usize; 2],
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
    /// Judges the first two different responses of each sample: p(y1 > y2 | V, x, c_t).
    pub(super) async fn judge(
        &self,
        t: u32,
        responses: &[ResponseRecord],
        contexts: &Contexts,
    ) -> Result<Vec<VerdictRecord>, Error> {
        let mut contests = Vec::new();
        for record in responses {
            let context = contexts.get(&record.video);
            // Without one although a retrospector runs, its video was quarantined.
            let may_judge = context.is_some() || self.parts.components.retrospector.is_none();
            if let Some(compared) = first_difference(&record.responses).filter(|_| may_judge) {
                contests.push(Contest { record, compared, context });
            }
        }
        let plan = StagePlan {
            iteration: t,
            stage: Stage::Judge,
            journal: "verdicts.jsonl",
            population: responses.len(),
        };
        self.run_stage(plan, contests, |Contest { record, compared, context }| {
            let (record, context) = (record.clone(), context.cloned());
            let (scenes, policy) = (Arc::clone(&self.scenes), self.frozen.clone());
            let judge = Arc::clone(&self.parts.components.judge);
            let seed = self.streams.seed(t, Stage::Judge.name(), record.sample.as_str());
            async move {
                let scene = scenes.open(record.video.as_ref()).await?;
                let [first, second] = compared.map(|index| record.responses[index].clone());
                let (instruction, iteration) = (record.instruction, context.as_ref().map(|c| c.iteration));
                let case = JudgeCase { scene, instruction, context, first, second, seed };
                let verdict = judge.judge(&case, &policy).await?;
                check_verdict(&verdict)?;
                Ok(VerdictRecord { sample: record.sample, seed, context: iteration, compared, verdict })
            }
        })
        .await
    }
}

/// The two responses that a judge compares: the first, and the first whose text differs from it.
pub fn first_difference(responses: &[Response]) -> Option<[usize; 2]> {
    let first = responses.first()?;
    let other = responses.iter().position(|response| response.text.trim() != first.text.trim())?;
    Some([0, other])
}

fn check_verdict(verdict: &Verdict) -> Result<(), ComponentError> {
    let probabilities = verdict.votes.iter().map(|vote| vote.p_first).chain([verdict.p_first]);
    for p in probabilities {
        if !(0.0..=1.0).contains(&p) {
            return Err(ComponentError::bad_input(format!(
                "the judge's probability is {p}, not in [0, 1]"
            )));
        }
    }
    Ok(())
}
