//! Pairs of datasets: drawn by their share of an iteration's pairs, scored under pi_t, and joined to the run's own.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use isr_api::records::{PairRecord, PreferenceRecord, ResponseRecord};
use isr_api::{
    ComponentError, Continuation, Error, Fingerprint, FinishReason, FrozenPolicy, Preference, Preferences,
    Prompt, Response, Sample, SampleId, ScoreRequest, Stage, UnusableRow, video_key,
};
use rand::seq::index;
use serde::Serialize;

use super::IterativeLoop;
use super::record::{StageItem, StageRecord};
use super::resume::LoopData;
use super::sampling::{check_instruction, check_responses};
use super::select::{Selected, no_pairs, write_pairs};
use super::stage::StagePlan;
use crate::look::Look;
use crate::video_cache::VideoCache;

/// A dataset of preference pairs, and its share of the pairs that are trained on.
pub struct PreferenceData {
    /// The dataset.
    pub preferences: Arc<dyn Preferences>,
    /// Share of an iteration's pairs, in (0, 1]. Where the shares of an iteration add up to 1, nothing is sampled and
    /// judged: it is a round of offline preference training.
    pub share: f64,
    /// Iterations that use it, from 1; empty for all.
    pub iterations: Vec<u32>,
}

/// Rows of one dataset.
pub(super) type Rows = Vec<Result<Preference, UnusableRow>>;

/// An iteration's pairs with the responses that they name.
pub(super) struct Mixed {
    pub(super) responses: Vec<ResponseRecord>,
    pub(super) selected: Selected,
    /// Number of rows of datasets that were drawn.
    pub(super) drawn: usize,
}

/// A row of a dataset. Its JSON form is part of the stage's cache key.
#[derive(Serialize)]
#[serde(transparent)]
struct RowItem<'a>(&'a Result<Preference, UnusableRow>);

impl StageItem for RowItem<'_> {
    fn subject(&self) -> &str {
        subject(self.0)
    }

    fn video(&self) -> Cow<'_, str> {
        match self.0.as_ref().ok().and_then(|pair| pair.video.as_deref()) {
            Some(video) => Cow::Owned(video_key(video)),
            None => Cow::Borrowed(self.subject()),
        }
    }
}

impl StageRecord for PreferenceRecord {
    fn subject(&self) -> &str {
        self.id.as_str()
    }
}

fn subject(row: &Result<Preference, UnusableRow>) -> &str {
    match row {
        Ok(pair) => &pair.id,
        Err(unusable) => &unusable.origin,
    }
}

/// Shares whose sum is this close to 1 leave nothing for the run's own pairs.
const ROUNDING: f64 = 1e-9;

impl IterativeLoop {
    /// Adds datasets of preference pairs, which iterations train on beside or instead of the run's own pairs.
    #[must_use]
    pub fn with_preferences(mut self, data: Vec<PreferenceData>) -> Self {
        self.preference_data = data;
        self
    }

    /// Share of each dataset in an iteration, 0 for one that it does not use.
    fn shares(&self, t: u32) -> Vec<f64> {
        let share = |data: &PreferenceData| match data.iterations.is_empty() || data.iterations.contains(&t)
        {
            true => data.share,
            false => 0.0,
        };
        self.preference_data.iter().map(share).collect()
    }

    /// Whether all pairs of an iteration come from datasets.
    pub(super) fn is_offline(&self, t: u32) -> bool {
        self.shares(t).iter().sum::<f64>() >= 1.0 - ROUNDING
    }

    /// Reads the rows of all datasets. An id that a sample or another dataset has is made distinct by a number.
    pub(super) async fn load_preferences(&self, samples: &[Sample]) -> Result<Vec<Rows>, Error> {
        let mut taken: HashSet<String> = HashSet::new();
        if !self.preference_data.is_empty() {
            taken.extend(samples.iter().map(|sample| sample.id.0.clone()));
        }
        let mut all = Vec::new();
        for data in &self.preference_data {
            let mut rows = self.interruptible(data.preferences.rows(), "load", "preferences").await?;
            for row in &mut rows {
                let name = match row {
                    Ok(pair) => &mut pair.id,
                    Err(unusable) => &mut unusable.origin,
                };
                make_distinct(name, &mut taken);
            }
            if rows.iter().all(Result::is_err) {
                let first = rows.into_iter().find_map(Result::err);
                let reason = first.map_or_else(|| "it has no row".to_owned(), |row| row.to_string());
                return Err(Error::Config(format!("`preferences` has no pair that can be used: {reason}")));
            }
            all.push(rows);
        }
        Ok(all)
    }

    /// Joins the run's own pairs with those of the iteration's datasets, scored under pi_t, and writes `pairs.jsonl`.
    pub(super) async fn mix(
        &self,
        t: u32,
        data: &LoopData,
        mut responses: Vec<ResponseRecord>,
        mut selected: Selected,
    ) -> Result<Mixed, Error> {
        let items = self.draw_rows(t, &data.preferences, selected.pairs.len());
        let drawn = items.len();
        let records = if items.is_empty() { Vec::new() } else { self.score_rows(t, data, items).await? };
        selected.summary.from_data = records.len();
        for record in records {
            let (pair, response) = trained_on(record);
            selected.pairs.push(pair);
            responses.push(response);
        }
        selected.summary.kept = selected.pairs.len();
        if selected.pairs.is_empty() {
            return Err(no_pairs(t, &selected.summary.dropped));
        }
        if self.processes.leads() {
            write_pairs(&self.parts.store.iteration(t)?, &selected.pairs)?;
        }
        Ok(Mixed { responses, selected, drawn })
    }

    /// Draws pairs of the iteration's datasets without replacement, in the order of their rows, and with them the rows of
    /// these datasets that cannot be used.
    fn draw_rows<'a>(&self, t: u32, datasets: &'a [Rows], own: usize) -> Vec<RowItem<'a>> {
        let shares = self.shares(t);
        let usable =
            |rows: &'a Rows| -> Vec<usize> { (0..rows.len()).filter(|&row| rows[row].is_ok()).collect() };
        let total = if self.is_offline(t) {
            let sizes = datasets.iter().zip(&shares).filter(|(_, share)| **share > 0.0);
            let all = sizes.map(|(rows, share)| usable(rows).len() as f64 / share).fold(f64::MAX, f64::min);
            self.parts.settings.samples.map_or(all, |wanted| all.min(wanted as f64))
        } else {
            own as f64 / (1.0 - shares.iter().sum::<f64>())
        };
        let mut items = Vec::new();
        for (place, (rows, share)) in datasets.iter().zip(&shares).enumerate() {
            if *share <= 0.0 {
                continue;
            }
            let candidates = usable(rows);
            let wanted = (total * share).round() as usize;
            if wanted > candidates.len() {
                tracing::warn!(
                    "iteration {t}: a share of {share} is {wanted} pairs, and this set of `preferences` has {}; all are taken",
                    candidates.len()
                );
            }
            let wanted = wanted.min(candidates.len());
            let drawn: HashSet<usize> = if wanted == candidates.len() {
                candidates.into_iter().collect()
            } else {
                let mut rng = self.streams.rng(t, Stage::Preferences.name(), &place.to_string());
                let chosen = index::sample(&mut rng, candidates.len(), wanted);
                chosen.into_iter().map(|at| candidates[at]).collect()
            };
            let is_item = |(at, row): &(usize, _)| drawn.contains(at) || Result::is_err(*row);
            items.extend(rows.iter().enumerate().filter(is_item).map(|(_, row)| RowItem(row)));
        }
        items
    }

    /// Scores chosen and rejected responses under pi_t, which is their reference policy in training.
    async fn score_rows(
        &self,
        t: u32,
        data: &LoopData,
        items: Vec<RowItem<'_>>,
    ) -> Result<Vec<PreferenceRecord>, Error> {
        let used = data.preferences.iter().zip(self.shares(t)).filter(|(_, share)| *share > 0.0);
        let plan = StagePlan {
            iteration: t,
            stage: Stage::Preferences,
            journal: "preferences.jsonl",
            population: used.map(|(rows, _)| rows.len()).sum(),
            cache_key: self.cache_key(Stage::Preferences, t, &items),
        };
        let fingerprint = self.fingerprint()?;
        self.run_stage(plan, items, |RowItem(row)| {
            let (row, videos, policy) = (row.clone(), Arc::clone(&self.videos), self.frozen.clone());
            let (fingerprint, look) = (fingerprint.clone(), self.look(t));
            async move {
                let pair = row.map_err(|unusable| ComponentError::bad_input(unusable.reason))?;
                let origin = pair.origin.clone();
                let scored = score(pair, (&videos, look), &policy, &fingerprint).await;
                scored.map_err(|error| match error {
                    ComponentError::BadInput(cause) => {
                        ComponentError::bad_input(format!("{origin}: {cause}"))
                    }
                    error => error,
                })
            }
        })
        .await
    }
}

/// Appends the first number from 2 that makes a name a new one.
fn make_distinct(name: &mut String, taken: &mut HashSet<String>) {
    let mut number = 2;
    let mut distinct = name.clone();
    while !taken.insert(distinct.clone()) {
        distinct = format!("{name}-{number}");
        number += 1;
    }
    *name = distinct;
}

async fn score(
    pair: Preference,
    (videos, look): (&VideoCache, Look),
    policy: &FrozenPolicy,
    fingerprint: &Fingerprint,
) -> Result<PreferenceRecord, ComponentError> {
    check_instruction(&pair.prompt)?;
    let scene = match &pair.video {
        Some(video) => Some(videos.open(video, look).await?),
        None => None,
    };
    let prompt = Prompt::conversation(scene.as_ref(), &pair.turns, pair.prompt.clone());
    let texts = [pair.chosen, pair.rejected];
    let continuations = texts.iter().cloned().map(Continuation::Answer).collect();
    let scored = policy.score(ScoreRequest { prompt, continuations }).await?;
    let answers = texts.into_iter().zip(scored).map(|(text, scored)| Response {
        text,
        token_ids: scored.token_ids,
        logprobs: scored.logprobs,
        finish_reason: FinishReason::Stop,
        policy: fingerprint.clone(),
        reasoning: None,
    });
    let answers: Vec<Response> = answers.collect();
    check_responses(&answers, 2)?;
    let responses: [Response; 2] =
        answers.try_into().map_err(|_| ComponentError::failed("the policy did not score two answers"))?;
    if responses[0].token_ids == responses[1].token_ids {
        return Err(ComponentError::bad_input("`chosen` and `rejected` are the same tokens"));
    }
    Ok(PreferenceRecord {
        id: SampleId(pair.id),
        origin: pair.origin,
        video: pair.video.as_deref().map(video_key).unwrap_or_default(),
        turns: pair.turns,
        instruction: pair.prompt,
        p_chosen: pair.p_chosen.unwrap_or(1.0),
        responses,
    })
}

/// The pair of a scored row, and its responses in the form of sampled ones.
fn trained_on(record: PreferenceRecord) -> (PairRecord, ResponseRecord) {
    let PreferenceRecord { id, origin, video, turns, instruction, p_chosen, responses } = record;
    let pair = PairRecord {
        id: id.clone(),
        video: video.clone(),
        turns,
        prompt: instruction.clone(),
        chosen: responses[0].text.clone(),
        rejected: responses[1].text.clone(),
        chosen_index: 0,
        rejected_index: 1,
        p_chosen,
        oracle: false,
        origin: Some(origin),
    };
    let response = ResponseRecord { sample: id, video, instruction, seed: 0, responses: responses.into() };
    (pair, response)
}
