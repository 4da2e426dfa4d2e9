//! The respond and retrospect stages: rollouts and visual contexts.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use isr_api::records::ResponseRecord;
use isr_api::{
    ComponentError, Error, GenerateRequest, Prompt, Response, RetrospectionCase, Sample, Stage,
    VisualContext, video_key,
};
use isr_config::PreviousContext;
use rand::seq::index;
use serde::Serialize;

use super::IterativeLoop;
use super::record::{StageItem, StageRecord};
use super::resume::{Contexts, LoopData};
use super::stage::StagePlan;

impl StageItem for Sample {
    fn subject(&self) -> &str {
        self.id.as_str()
    }

    fn video(&self) -> Cow<'_, str> {
        Cow::Owned(video_key(&self.video))
    }
}

impl StageRecord for ResponseRecord {
    fn subject(&self) -> &str {
        self.sample.as_str()
    }
}

/// A video with its previous context. Its JSON form is part of the stage's cache key.
#[derive(Serialize)]
struct VideoItem {
    video: String,
    previous: Option<VisualContext>,
}

impl StageItem for VideoItem {
    fn subject(&self) -> &str {
        &self.video
    }

    fn video(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.video)
    }
}

impl StageRecord for VisualContext {
    fn subject(&self) -> &str {
        &self.video
    }
}

impl IterativeLoop {
    /// Draws the samples of an iteration: all, or `loop.samples` of them without replacement; none if all pairs come from
    /// datasets.
    pub(super) fn draw_samples<'a>(&self, t: u32, data: &'a LoopData) -> Vec<&'a Sample> {
        if self.is_offline(t) {
            return Vec::new();
        }
        let all = &data.training;
        let Some(wanted) = self.parts.settings.samples.filter(|&wanted| wanted < all.len()) else {
            return all.iter().collect();
        };
        let mut rng = self.streams.rng(t, "draw", "");
        let mut chosen = index::sample(&mut rng, all.len(), wanted).into_vec();
        chosen.sort_unstable();
        chosen.into_iter().map(|position| &all[position]).collect()
    }

    /// Samples the responses: y1, y2 ~ pi_t(V, x).
    pub(super) async fn respond(&self, t: u32, samples: &[&Sample]) -> Result<Vec<ResponseRecord>, Error> {
        let plan = StagePlan {
            iteration: t,
            stage: Stage::Respond,
            journal: "responses.jsonl",
            population: samples.len(),
            cache_key: self.cache_key(Stage::Respond, t, &samples),
        };
        self.run_stage(plan, samples.to_vec(), |sample: &Sample| {
            let sample = sample.clone();
            let (videos, policy) = (Arc::clone(&self.videos), self.frozen.clone());
            let look = self.look(t);
            let seed = self.streams.seed(t, Stage::Respond.name(), sample.id.as_str());
            let (sampling, n) = (self.parts.settings.sampling.clone(), self.parts.settings.responses);
            async move {
                check_instruction(&sample.instruction)?;
                let scene = videos.open(&sample.video, look).await?;
                let prompt = Prompt::about(&scene, sample.instruction.clone());
                let responses = policy.generate(GenerateRequest { prompt, sampling, n, seed }).await?;
                check_responses(&responses, n)?;
                let video = video_key(&sample.video);
                let Sample { id, instruction, .. } = sample;
                Ok(ResponseRecord { sample: id, video, instruction, seed, responses })
            }
        })
        .await
    }

    /// Writes the visual context of each video: c_t ~ pi_t(V, c_{t-1}). Empty without a retrospector.
    pub(super) async fn retrospect(
        &self,
        t: u32,
        responses: &[ResponseRecord],
        previous: &Contexts,
    ) -> Result<Contexts, Error> {
        let Some(retrospector) = &self.parts.components.retrospector else {
            return Ok(HashMap::new());
        };
        let mut seen = HashSet::new();
        let videos =
            responses.iter().map(|record| record.video.clone()).filter(|video| seen.insert(video.clone()));
        let others = match self.parts.settings.previous_context {
            PreviousContext::Own => None,
            PreviousContext::Other => Some(self.exchanged(t, "other previous contexts", previous)),
        };
        let shown = |video: &String| match &others {
            None => previous.get(video),
            // A single video has no other.
            Some(others) => others.get(video).filter(|context| context.video != *video),
        };
        let item = |video: String| VideoItem { previous: shown(&video).cloned(), video };
        let items: Vec<VideoItem> = videos.map(item).collect();
        let plan = StagePlan {
            iteration: t,
            stage: Stage::Retrospect,
            journal: "contexts.jsonl",
            population: items.len(),
            cache_key: self.cache_key(Stage::Retrospect, t, &items),
        };
        let contexts = self
            .run_stage(plan, items, |item| {
                let (videos, policy) = (Arc::clone(&self.videos), self.frozen.clone());
                let (retrospector, look) = (Arc::clone(retrospector), self.look(t));
                let seed = self.streams.seed(t, Stage::Retrospect.name(), &item.video);
                async move {
                    let scene = videos.open(item.video.as_ref(), look).await?;
                    let parent = item.previous.as_ref().map(|context| context.iteration);
                    let parent_of = item.previous.as_ref().map(|context| context.video.clone());
                    let parent_of = parent_of.filter(|video| *video != item.video);
                    let case = RetrospectionCase { scene, previous: item.previous, seed };
                    let text = retrospector.describe(&case, &policy).await?;
                    if text.trim().is_empty() {
                        return Err(ComponentError::bad_input("the retrospector wrote an empty context"));
                    }
                    Ok(VisualContext { video: item.video, iteration: t, parent, parent_of, text })
                }
            })
            .await?;
        Ok(contexts.into_iter().map(|context| (context.video.clone(), context)).collect())
    }
}

/// Checks responses against the contract of [`Policy`](isr_api::Policy) before they are journalled and trained on.
pub(super) fn check_responses(responses: &[Response], asked: usize) -> Result<(), ComponentError> {
    if responses.len() != asked {
        let got = responses.len();
        return Err(ComponentError::failed(format!("asked the policy for {asked} answers, got {got}")));
    }
    for Response { token_ids, logprobs, reasoning, .. } in responses {
        if reasoning.as_ref().is_some_and(|reasoning| reasoning.tokens > token_ids.len()) {
            let text = "the policy returned reasoning of more tokens than its response has";
            return Err(ComponentError::failed(text));
        }
        let (tokens, values) = (token_ids.len(), logprobs.len());
        if tokens != values {
            let text = format!("the policy returned {tokens} tokens with {values} log-probs");
            return Err(ComponentError::failed(text));
        }
        if let Some(value) = logprobs.iter().find(|value| !value.is_finite()) {
            return Err(ComponentError::failed(format!("the policy returned a log-prob of {value}")));
        }
    }
    Ok(())
}

/// Rejects an empty instruction.
pub(super) fn check_instruction(instruction: &str) -> Result<(), ComponentError> {
    if instruction.trim().is_empty() {
        return Err(ComponentError::bad_input("the instruction is empty"));
    }
    Ok(())
}
