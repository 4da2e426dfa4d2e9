//! The reference stage: log-probs under pi_t of the additional views of an objective.
//!
//! Log-probs of the responses themselves are recorded during sampling, and scored here only with
//! `train.reference = "recompute"`. Those of other views must be computed before training changes the weights.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use isr_api::records::{
    CorruptedRecord, MismatchedRecord, PairRecord, RecomputedRecord, ReferenceRecord, ResponseRecord,
};
use isr_api::{
    ComponentError, Continuation, Error, Fingerprint, FrozenPolicy, Prompt, Response, ScoreRequest, Stage,
    View,
};
use isr_config::ReferenceSource;
use rand::Rng;
use rand::seq::SliceRandom;

use super::IterativeLoop;
use super::pair_prompt::prompt_of;
use super::record::{StageItem, StageRecord};
use super::stage::{StagePlan, in_iteration};
use crate::guard::{caught, component_error};
use crate::look::Look;
use crate::video_cache::VideoCache;

/// Responses by sample id.
pub(super) type BySample<'a> = HashMap<&'a str, &'a ResponseRecord>;

/// A preference pair with the completions to score for it.
struct Scoring {
    pair: PairRecord,
    /// Seed of the crop window and tokens of the chosen response, for [`View::ChosenCorrupted`].
    corrupted: Option<(u64, Vec<u32>)>,
    mismatched: Option<Other>,
    /// Tokens of the chosen and the rejected response, to recompute their log-probs.
    recomputed: Option<[Vec<u32>; 2]>,
}

/// A response of another pair, for [`View::Mismatched`].
#[derive(Clone)]
struct Other {
    record: MismatchedRecord,
    tokens: Vec<u32>,
}

impl StageItem for Scoring {
    fn subject(&self) -> &str {
        self.pair.id.as_str()
    }

    fn video(&self) -> Cow<'_, str> {
        match self.pair.video.is_empty() {
            true => Cow::Borrowed(self.subject()),
            false => Cow::Borrowed(&self.pair.video),
        }
    }
}

impl StageRecord for ReferenceRecord {
    fn subject(&self) -> &str {
        self.sample.as_str()
    }
}

impl IterativeLoop {
    /// Scores the additional views that the objective requires, and the responses if their reference is recomputed;
    /// returns records by sample id, or `None` if there is nothing to score. A pair without a record was quarantined.
    pub(super) async fn score_references(
        &self,
        t: u32,
        responses: &BySample<'_>,
        pairs: &[PairRecord],
        cache_key: Option<Fingerprint>,
    ) -> Result<Option<HashMap<String, ReferenceRecord>>, Error> {
        let objective = &self.parts.components.objective;
        let needs =
            caught(&in_iteration(t, Stage::Reference.name()), "the objective's requirements", || {
                Ok(objective.requirements())
            })?;
        let asks = |view| needs.views.contains(&view);
        let recomputes = needs.reference && self.parts.train.reference == ReferenceSource::Recompute;
        if !(asks(View::ChosenCorrupted) || asks(View::Mismatched) || recomputes) {
            return Ok(None);
        }
        let mut others = match asks(View::Mismatched) {
            true => self.others(t, responses, pairs)?,
            false => HashMap::new(),
        };
        let scoring = |pair: &PairRecord| {
            let id = pair.id.as_str();
            let tokens_of = |index| answer(responses, id, index).map(|found| found.token_ids.clone());
            let tokens = || tokens_of(pair.chosen_index);
            let both = || Some([tokens()?, tokens_of(pair.rejected_index)?]);
            let corrupted = asks(View::ChosenCorrupted).then(|| self.streams.seed(t, "corrupt", id));
            Scoring {
                corrupted: corrupted.and_then(|seed| Some((seed, tokens()?))),
                mismatched: others.remove(id),
                recomputed: if recomputes { both() } else { None },
                pair: pair.clone(),
            }
        };
        let scorings = pairs.iter().map(scoring).collect();
        let plan = StagePlan {
            iteration: t,
            stage: Stage::Reference,
            journal: "references.jsonl",
            population: responses.len(),
            cache_key,
        };
        let records = self.run_stage(plan, scorings, |scoring| {
            score(scoring, (Arc::clone(&self.videos), self.look(t)), self.frozen.clone())
        });
        let records = records.await?;
        Ok(Some(records.into_iter().map(|record| (record.sample.as_str().to_owned(), record)).collect()))
    }

    /// Assigns each pair a response of another pair: shuffles the pairs into a cycle and takes from the next one the
    /// chosen or the rejected response with equal probability.
    fn others(
        &self,
        t: u32,
        responses: &BySample<'_>,
        pairs: &[PairRecord],
    ) -> Result<HashMap<String, Other>, Error> {
        if pairs.len() < 2 {
            let text = "the objective compares each pair with another one, and there is but one pair; take \
                        more samples or loosen the selection";
            let stage = in_iteration(t, Stage::Reference.name());
            return Err(component_error(&stage, "the pairs", ComponentError::failed(text)));
        }
        let mut rng = self.streams.rng(t, "mismatch", "");
        let mut round: Vec<&PairRecord> = pairs.iter().collect();
        round.shuffle(&mut rng);
        let next = round.iter().cycle().skip(1);
        let other = |(pair, next): (&&PairRecord, &&PairRecord)| {
            let index = if rng.random() { next.chosen_index } else { next.rejected_index };
            let tokens = answer(responses, next.id.as_str(), index)?.token_ids.clone();
            let record = MismatchedRecord { sample: next.id.clone(), index, logprobs: Vec::new() };
            Some((pair.id.as_str().to_owned(), Other { record, tokens }))
        };
        Ok(round.iter().zip(next).filter_map(other).collect())
    }
}

/// A recorded response by sample id and index.
pub(super) fn answer<'a>(responses: &BySample<'a>, sample: &str, index: usize) -> Option<&'a Response> {
    responses.get(sample).and_then(|record| record.responses.get(index))
}

async fn score(
    scoring: Scoring,
    (videos, look): (Arc<VideoCache>, Look),
    policy: FrozenPolicy,
) -> Result<ReferenceRecord, ComponentError> {
    let Scoring { pair, corrupted, mismatched, recomputed } = scoring;
    let of = async |prompt: Prompt, tokens: Vec<u32>| -> Result<Vec<f32>, ComponentError> {
        let length = tokens.len();
        let continuations = vec![Continuation::Tokens(tokens)];
        let scored = policy.score(ScoreRequest { prompt, continuations }).await?;
        let logprobs = scored.into_iter().next().map(|scored| scored.logprobs);
        let logprobs =
            logprobs.ok_or_else(|| ComponentError::failed("the policy returned no log-probs"))?;
        check_scores(&logprobs, length)?;
        Ok(logprobs)
    };
    let corrupted = match corrupted {
        Some((seed, tokens)) => {
            let logprobs = of(prompt_of(&videos, look, &pair, Some(seed)).await?, tokens).await?;
            Some(CorruptedRecord { seed, logprobs })
        }
        None => None,
    };
    let mismatched = match mismatched {
        Some(Other { record, tokens }) => {
            let logprobs = of(prompt_of(&videos, look, &pair, None).await?, tokens).await?;
            Some(MismatchedRecord { logprobs, ..record })
        }
        None => None,
    };
    let recomputed = match recomputed {
        Some([chosen, rejected]) => {
            let prompt = prompt_of(&videos, look, &pair, None).await?;
            let (chosen, rejected) = (of(prompt.clone(), chosen).await?, of(prompt, rejected).await?);
            Some(RecomputedRecord { chosen, rejected })
        }
        None => None,
    };
    Ok(ReferenceRecord { sample: pair.id, corrupted, mismatched, recomputed })
}

/// Checks scores of `tokens` tokens before they are journalled and trained on.
fn check_scores(logprobs: &[f32], tokens: usize) -> Result<(), ComponentError> {
    if logprobs.len() != tokens {
        let got = logprobs.len();
        return Err(ComponentError::failed(format!("the policy scored {got} of {tokens} tokens")));
    }
    match logprobs.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(ComponentError::failed(format!("the policy returned a log-prob of {value}"))),
        None => Ok(()),
    }
}
