//! Placement of a video's features in a prompt.

use super::positions::Grid;

/// Text and feature blocks that replace the template's placeholder of one video.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PromptLayout {
    /// Replacement of the template's placeholder, with one placeholder for each block; `None` keeps the
    /// template's own.
    pub(crate) text: Option<String>,
    /// Blocks of consecutive features, in order.
    pub(crate) blocks: Vec<FeatureBlock>,
}

/// Consecutive visual features at one placeholder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FeatureBlock {
    /// Number of features; positions count on as for text.
    Row(usize),
    /// Features with three-axis positions (M-RoPE).
    Grid(Grid),
}

impl FeatureBlock {
    /// Returns the number of features.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Row(count) => *count,
            Self::Grid(grid) => grid.len(),
        }
    }
}
