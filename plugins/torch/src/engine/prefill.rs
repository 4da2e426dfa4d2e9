//! Reading prompts. A prompt is read in two parts: up to the end of its last video, and the text behind it.
//! The first part is by far the longer, and the same in all that is asked about a video, so its keys and
//! values are kept: sampling, describing and judging in both orders read a video once.
//!
//! The parts are the same whether the first one is found or not, so that results are the same to the bit.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use isr_api::VideoInput;
use tch::Tensor;

use super::Engine;
use crate::chat::Rendered;
use crate::error::Result;
use crate::model::decoder::Attend;
use crate::model::kv_cache::{KvCache, Prefix};
use crate::model::{Sequence, Slot};
use crate::visual;

/// A prompt that has been read.
pub(super) struct Prefilled {
    pub(super) cache: KvCache,
    /// Hidden state `[1, 1, hidden]` behind the prompt.
    pub(super) last: Tensor,
}

/// Beginnings of prompts, in the order of their last use; their sizes add up to `limit` at most.
pub(crate) struct Prefixes {
    kept: VecDeque<Kept>,
    limit: u64,
}

struct Kept {
    slots: Vec<Slot>,
    /// The videos themselves: while they are held, no other stands at their address.
    scenes: Vec<VideoInput>,
    prefix: Rc<Prefix>,
}

impl Kept {
    fn is(&self, slots: &[Slot], scenes: &[VideoInput]) -> bool {
        let videos = self.scenes.len() == scenes.len()
            && self.scenes.iter().zip(scenes).all(|(kept, asked)| is_same(kept, asked));
        videos && self.slots == slots
    }
}

/// Whether two scenes hold the very same frames and features in memory.
fn is_same(one: &VideoInput, other: &VideoInput) -> bool {
    let features = match (&one.features, &other.features) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    };
    features && Arc::ptr_eq(&one.frames, &other.frames)
}

impl Prefixes {
    /// None yet; at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { kept: VecDeque::new(), limit }
    }

    /// Forgets all: they belong to other weights.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    fn find(&mut self, slots: &[Slot], scenes: &[VideoInput]) -> Option<Rc<Prefix>> {
        let at = self.kept.iter().position(|kept| kept.is(slots, scenes))?;
        let found = self.kept.remove(at)?;
        let prefix = Rc::clone(&found.prefix);
        self.kept.push_back(found);
        Some(prefix)
    }

    fn keep(&mut self, slots: &[Slot], scenes: &[VideoInput], prefix: &Rc<Prefix>) {
        if prefix.bytes() > self.limit {
            return;
        }
        let (slots, scenes) = (slots.to_vec(), scenes.to_vec());
        self.kept.push_back(Kept { slots, scenes, prefix: Rc::clone(prefix) });
        while self.kept.iter().map(|kept| kept.prefix.bytes()).sum::<u64>() > self.limit {
            self.kept.pop_front();
        }
    }
}

impl Engine {
    /// Reads a prompt, and leaves room for `room` tokens behind it.
    pub(super) fn prefill(&mut self, rendered: &Rendered, room: usize) -> Result<Prefilled> {
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
        let hidden = self.read(&rest, &mut cache)?;
        let last = hidden.f_narrow(1, (end - begin) as i64 - 1, 1)?;
        Ok(Prefilled { cache, last })
    }

    /// The first `length` slots of a prompt, read now or before.
    fn prefix(&mut self, rendered: &Rendered, length: usize) -> Result<Rc<Prefix>> {
        let slots = &rendered.slots[..length];
        if let Some(prefix) = self.prefixes.find(slots, &rendered.scenes) {
            return Ok(prefix);
        }
        let features = self.features(rendered)?;
        let mut cache = self.model.decoder.cache(None, length as i64)?;
        let inputs = self.model.read(&[rendered.part(0..length, features.as_ref())])?;
        let _ = self.model.decoder.forward(&inputs, Attend::Fill(&mut cache))?;
        cache.advance(length as i64);
        let prefix = Rc::new(cache.into_prefix());
        self.prefixes.keep(slots, &rendered.scenes, &prefix);
        Ok(prefix)
    }

    /// Hidden states `[1, length, hidden]` of a sequence, which the cache then holds.
    fn read(&self, sequence: &Sequence<'_>, cache: &mut KvCache) -> Result<Tensor> {
        let length = sequence.slots.len() as i64;
        let inputs = self.model.read(std::slice::from_ref(sequence))?;
        let hidden = self.model.decoder.forward(&inputs, Attend::Extend(cache))?;
        cache.advance(length);
        Ok(hidden)
    }

    /// Tower features of a prompt's videos.
    pub(super) fn features(&self, rendered: &Rendered) -> Result<Option<Tensor>> {
        visual::features(&self.model, &rendered.scenes, self.trainer.own_tower())
    }
}
