//! Items of a stage, and the journal lines that hold their results.

use std::borrow::Cow;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A journal line: the result of one item of a stage.
pub(super) trait StageRecord: Serialize + DeserializeOwned + Send + 'static {
    /// Key of the item: a sample's id, or a video's key.
    fn subject(&self) -> &str;
}

/// One unit of a stage's work: a sample, a video or a pair.
pub(super) trait StageItem {
    /// Key of the item, equal to the [`StageRecord::subject`] of its result.
    fn subject(&self) -> &str;

    /// Key of the item's video; of an item without one its own key.
    fn video(&self) -> Cow<'_, str>;
}

impl<I: StageItem> StageItem for &I {
    fn subject(&self) -> &str {
        (*self).subject()
    }

    fn video(&self) -> Cow<'_, str> {
        (*self).video()
    }
}
