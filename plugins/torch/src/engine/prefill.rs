//! Prefill. A prompt is prefilled in two parts: up to the end of its last video, and the text behind it. The first
//! part is by far the longer, and shared by all prompts about a video, so its keys and values are cached:
//! sampling, describing and judging in both orders prefill a video once.
//!
//! The split is the same whether or not the first part is cached, so that results are equal to the bit.

use std::rc::Rc;

use tch::Tensor;

use super::Engine;
use crate::chat::Rendered;
use crate::error::Result;
use crate::model::Sequence;
use crate::model::decoder::AttentionMode;
use crate::model::kv_cache::{KvCache, Prefix};
use crate::visual;

/// Result of a prefill.
pub(super) struct PrefillOutput {
    /// Keys and values of the prompt.
    pub(super) cache: KvCache,
    /// Final hidden state `[1, 1, hidden]` of the prompt's last token.
    pub(super) last: Tensor,
}

impl Engine {
    /// Prefills a prompt, with cache capacity for `room` more tokens; the cache grows beyond them.
    pub(super) fn prefill(&mut self, rendered: &Rendered, room: usize) -> Result<PrefillOutput> {
        let (begin, end) = (rendered.prefix(), rendered.slots.len());
        let features;
        let (prefix, rest) = match begin {
            0 => {
                features = self.features(rendered)?;
                (None, rendered.sequence(features.as_ref()))
            }
            _ => (Some(self.prefix(rendered, begin)?), rendered.part(begin..end, None)),
        };
        let mut cache = self.model.decoder.cache(prefix, (end - begin + room) as i64)?;
        let hidden = self.extend(&rest, &mut cache)?;
        let last = hidden.f_narrow(1, (end - begin) as i64 - 1, 1)?;
        Ok(PrefillOutput { cache, last })
    }

    /// Returns keys and values of the first `length` slots of a prompt, from the cache or computed.
    fn prefix(&mut self, rendered: &Rendered, length: usize) -> Result<Rc<Prefix>> {
        let key = self.prefixes.key(&rendered.slots[..length], &rendered.scenes, self.trainer.own_tower());
        if let Some(prefix) = self.prefixes.find(&key) {
            return Ok(prefix);
        }
        let features = self.features(rendered)?;
        let mut cache = self.model.decoder.cache(None, length as i64)?;
        let inputs = self.model.embed(&[rendered.part(0..length, features.as_ref())])?;
        let _ = self.model.decoder.forward(&inputs, AttentionMode::Fill(&mut cache))?;
        cache.advance(length as i64);
        let prefix = Rc::new(cache.into_prefix());
        self.prefixes.insert(key, &prefix);
        Ok(prefix)
    }

    /// Returns final hidden states `[1, length, hidden]` of a sequence, and appends it to the cache.
    fn extend(&self, sequence: &Sequence<'_>, cache: &mut KvCache) -> Result<Tensor> {
        let length = sequence.slots.len() as i64;
        let inputs = self.model.embed(std::slice::from_ref(sequence))?;
        let hidden = self.model.decoder.forward(&inputs, AttentionMode::Extend(cache))?;
        cache.advance(length);
        Ok(hidden)
    }

    /// Returns tower features of a prompt's videos, `[features, width]`.
    pub(super) fn features(&self, rendered: &Rendered) -> Result<Option<Tensor>> {
        visual::features(&self.model, &rendered.scenes, self.trainer.own_tower())
    }
}
