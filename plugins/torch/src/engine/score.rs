//! Scoring: log-probs of given continuations.

use isr_api::{Prompt, ScoreRequest, TokenLogProbs};
use tch::Tensor;

use super::Engine;
use super::prefill::PrefillOutput;
use crate::error::{Result, TorchError};
use crate::model::Slot;
use crate::model::config::Placeholder;
use crate::model::decoder::AttentionMode;
use crate::model::kv_cache::KvCache;
use crate::tensors::{first_row_not_finite, to_vec};

/// Logits of a rendered prompt, for comparison with other implementations.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// Token ids, with the visual token's id at every visual position as in transformers' `input_ids`;
    /// `u32::MAX` if the tokenizer has no visual token.
    pub token_ids: Vec<u32>,
    /// Logits `[length, vocabulary]` in float32, row-major.
    pub values: Vec<f32>,
}

impl Engine {
    /// Computes logits at every position of a prompt.
    pub(super) fn logits(&self, prompt: &Prompt) -> Result<Logits> {
        let rendered = self.render(prompt)?;
        let features = self.features(&rendered)?;
        let sequence = rendered.sequence(features.as_ref());
        let packed = [sequence.packed()];
        let inputs = self.model.embed(&[sequence])?;
        let hidden = self.model.decoder.forward(&inputs, AttentionMode::Packed(&packed))?;
        let values = to_vec(&self.model.decoder.logits(&hidden)?)?;
        let visual = match self.model.config.placeholder {
            Placeholder::Token(id) | Placeholder::Expanded(_, id) => id,
            Placeholder::Text(..) => u32::MAX,
        };
        let id = |slot: &Slot| if let Slot::Token(id) = slot { *id } else { visual };
        Ok(Logits { token_ids: rendered.slots.iter().map(id).collect(), values })
    }

    /// Computes log-probs of each continuation after one prefill of the prompt. Continuations do not see each
    /// other: tokens that are appended without [`KvCache::advance`] are overwritten by the next continuation.
    pub(super) fn score(&mut self, request: &ScoreRequest) -> Result<Vec<TokenLogProbs>> {
        let rendered = self.render(&request.prompt)?;
        let given = request.continuations.iter();
        let tokens = given.map(|given| self.chat.scored_continuation(&rendered, given));
        let (continuations, unscored): (Vec<Vec<u32>>, Vec<usize>) =
            tokens.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let length = rendered.slots.len();
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        let limit = self.model.config.text.max_position_embeddings;
        let extent = rendered.extent(longest);
        if extent > limit {
            let text = format!("prompt and answer have {extent} tokens, but the context holds {limit}");
            return Err(TorchError::Prompt(text));
        }
        let vocabulary = self.model.config.text.vocab_size as u32;
        if let Some(id) = continuations.iter().flatten().find(|id| **id >= vocabulary) {
            return Err(TorchError::Prompt(format!("token {id} is not in the vocabulary of {vocabulary}")));
        }
        let PrefillOutput { mut cache, last } = self.prefill(&rendered, longest)?;
        let start = length as i64 + rendered.positions.delta();
        let scored = continuations.into_iter().zip(unscored).map(|(ids, unscored)| {
            let mut score = self.score_one(&last, &mut cache, start, ids)?;
            score.token_ids.drain(..unscored);
            score.logprobs.drain(..unscored);
            Ok(score)
        });
        scored.collect()
    }

    /// Computes log-probs of one continuation whose first token is at position `start`.
    fn score_one(
        &self,
        last: &Tensor,
        cache: &mut KvCache,
        start: i64,
        ids: Vec<u32>,
    ) -> Result<TokenLogProbs> {
        if ids.is_empty() {
            return Ok(TokenLogProbs { token_ids: ids, logprobs: Vec::new() });
        }
        let tokens: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let mut hidden = last.shallow_clone();
        // The last token is a target, never an input.
        if let [read @ .., _] = tokens.as_slice()
            && !read.is_empty()
        {
            let inputs = self.model.embed_tokens(read, start)?;
            let behind = self.model.decoder.forward(&inputs, AttentionMode::Extend(cache))?;
            hidden = Tensor::f_cat(&[&hidden, &behind], 1)?;
        }
        let logits = self.model.decoder.logits(&hidden)?.f_squeeze_dim(0)?;
        if let Some(token) = first_row_not_finite(&logits)? {
            return Err(TorchError::NotFinite(format!("token {} of the continuation", token + 1)));
        }
        let logprobs = logits.f_log_softmax(-1, None)?;
        let targets = Tensor::f_from_slice(&tokens)?.f_to_device(self.model.device)?.f_unsqueeze(1)?;
        let logprobs = to_vec(&logprobs.f_gather(1, &targets, false)?)?;
        Ok(TokenLogProbs { token_ids: ids, logprobs })
    }
}
