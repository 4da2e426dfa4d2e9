//! Cache of prompt prefixes: keys and values of prompts up to the end of their last video.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use isr_api::VideoInput;

use crate::model::Slot;
use crate::model::kv_cache::Prefix;

/// Least-recently-used cache of prompt prefixes, bounded by the bytes of their keys and values.
pub(crate) struct PrefixCache {
    /// In the order of their last use.
    entries: VecDeque<PrefixEntry>,
    /// Upper bound in bytes.
    limit: u64,
}

/// A prefix with its key.
struct PrefixEntry {
    slots: Vec<Slot>,
    /// The videos themselves: while they are held, no other video has their address.
    scenes: Vec<VideoInput>,
    prefix: Rc<Prefix>,
}

impl PrefixEntry {
    fn matches(&self, slots: &[Slot], scenes: &[VideoInput]) -> bool {
        let videos = self.scenes.len() == scenes.len()
            && self.scenes.iter().zip(scenes).all(|(cached, given)| is_same(cached, given));
        videos && self.slots == slots
    }
}

/// Returns whether two scenes share their frames and features in memory.
fn is_same(one: &VideoInput, other: &VideoInput) -> bool {
    let features = match (&one.features, &other.features) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    };
    features && Arc::ptr_eq(&one.frames, &other.frames)
}

impl PrefixCache {
    /// Creates an empty cache of at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { entries: VecDeque::new(), limit }
    }

    /// Drops every entry; to be called when the weights change.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// Finds the prefix of these slots and videos, and marks it as used.
    pub(super) fn find(&mut self, slots: &[Slot], scenes: &[VideoInput]) -> Option<Rc<Prefix>> {
        let at = self.entries.iter().position(|entry| entry.matches(slots, scenes))?;
        let found = self.entries.remove(at)?;
        let prefix = Rc::clone(&found.prefix);
        self.entries.push_back(found);
        Some(prefix)
    }

    /// Inserts a prefix and evicts the least recently used ones above the limit. A prefix above the limit by
    /// itself is not cached.
    pub(super) fn insert(&mut self, slots: &[Slot], scenes: &[VideoInput], prefix: &Rc<Prefix>) {
        if prefix.bytes() > self.limit {
            return;
        }
        let (slots, scenes) = (slots.to_vec(), scenes.to_vec());
        self.entries.push_back(PrefixEntry { slots, scenes, prefix: Rc::clone(prefix) });
        while self.entries.iter().map(|entry| entry.prefix.bytes()).sum::<u64>() > self.limit {
            self.entries.pop_front();
        }
    }
}
