//! Log-probs of given continuations.

use isr_core::{Prompt, ScoreRequest, TokenLogProbs};
use tch::Tensor;

use super::Engine;
use super::decode::to_vec;
use crate::error::{Result, TorchError};
use crate::model::decoder::Attend;
use crate::model::kv_cache::KvCache;
use crate::model::{Sequence, Slot};

/// What the model computes for a rendered prompt, for comparison with other implementations.
#[derive(Clone, Debug, PartialEq)]
pub struct Logits {
    /// Token ids with the visual token's id at every visual position, as transformers' processors write
    /// them.
    pub token_ids: Vec<u32>,
    /// Logits `[length, vocabulary]` in float32, row-major.
    pub values: Vec<f32>,
}

impl Engine {
    /// Logits at every position of a prompt.
    pub(super) fn logits(&self, prompt: &Prompt) -> Result<Logits> {
        let (rendered, features) = self.render(prompt)?;
        let sequence = Sequence { slots: &rendered.slots, features: features.as_ref() };
        let embeddings = self.model.embed(&[sequence])?;
        let positions = self.model.positions(0, rendered.slots.len() as i64)?;
        let hidden = self.model.decoder.forward(&embeddings, &positions, Attend::Causal)?;
        let values = to_vec(&self.model.decoder.logits(&hidden)?)?;
        let id = |slot: &Slot| match slot {
            Slot::Token(id) => *id,
            Slot::Visual(_) => self.model.config.visual_token,
        };
        Ok(Logits { token_ids: rendered.slots.iter().map(id).collect(), values })
    }

    /// Prefills the prompt once; each continuation reads it, and leaves it as it was: what is not
    /// counted by `advance` is overwritten by the next.
    pub(super) fn score(&self, request: &ScoreRequest) -> Result<Vec<TokenLogProbs>> {
        let (rendered, features) = self.render(&request.prompt)?;
        let tokens = request.continuations.iter().map(|given| self.chat.continuation(&rendered, given));
        let continuations: Vec<Vec<u32>> = tokens.collect::<Result<_>>()?;
        let length = rendered.slots.len();
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        let limit = self.model.config.text.max_position_embeddings;
        if length + longest > limit {
            let text = format!(
                "prompt and answer have {} tokens, but the context holds {limit}",
                length + longest
            );
            return Err(TorchError::Prompt(text));
        }
        let vocabulary = self.model.config.text.vocab_size as u32;
        if let Some(id) = continuations.iter().flatten().find(|id| **id >= vocabulary) {
            return Err(TorchError::Prompt(format!("token {id} is not in the vocabulary of {vocabulary}")));
        }
        let mut cache = self.model.decoder.cache((length + longest) as i64)?;
        let sequence = Sequence { slots: &rendered.slots, features: features.as_ref() };
        let embeddings = self.model.embed(&[sequence])?;
        let positions = self.model.positions(0, length as i64)?;
        let hidden = self.model.decoder.forward(&embeddings, &positions, Attend::Extend(&mut cache))?;
        cache.advance(length as i64);
        let last = hidden.f_narrow(1, length as i64 - 1, 1)?;
        let scored = continuations.into_iter().map(|ids| self.score_one(&last, &mut cache, ids));
        scored.collect()
    }

    fn score_one(&self, last: &Tensor, cache: &mut KvCache, ids: Vec<u32>) -> Result<TokenLogProbs> {
        if ids.is_empty() {
            return Ok(TokenLogProbs { token_ids: ids, logprobs: Vec::new() });
        }
        let prompt = cache.len();
        let tokens: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
        let mut hidden = last.shallow_clone();
        // The last token is predicted, never read.
        let read = tokens.len() as i64 - 1;
        if read > 0 {
            let embeddings = self.model.embed_tokens(&tokens[..tokens.len() - 1])?.f_transpose(0, 1)?;
            let positions = self.model.positions(prompt, read)?;
            let behind = self.model.decoder.forward(&embeddings, &positions, Attend::Extend(cache))?;
            hidden = Tensor::f_cat(&[&hidden, &behind], 1)?;
        }
        let logprobs = self.model.decoder.logits(&hidden)?.f_squeeze_dim(0)?.f_log_softmax(-1, None)?;
        let targets = Tensor::f_from_slice(&tokens)?.f_to_device(self.model.device)?.f_unsqueeze(1)?;
        let logprobs = to_vec(&logprobs.f_gather(1, &targets, false)?)?;
        Ok(TokenLogProbs { token_ids: ids, logprobs })
    }
}
