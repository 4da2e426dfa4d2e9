//! Placement of a video's features in a prompt.

use super::positions::Grid;
use super::sequence::Slot;

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
    /// Lines of so many features each, with a newline embedding behind every line; positions count on as for text.
    Lines {
        /// Number of lines.
        count: usize,
        /// Features of a line.
        length: usize,
    },
    /// Features with three-axis positions (M-RoPE).
    Grid(Grid),
}

impl FeatureBlock {
    /// Returns the number of features and newlines.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Row(count) => *count,
            Self::Lines { count, length } => count * (length + 1),
            Self::Grid(grid) => grid.len(),
        }
    }

    /// Returns the slots of features and newlines; `next` is the index of the block's first feature, and then that of
    /// the next block's.
    pub(crate) fn slots(&self, next: &mut usize) -> Vec<Slot> {
        let line = match self {
            Self::Lines { length, .. } => *length,
            Self::Row(_) | Self::Grid(_) => usize::MAX,
        };
        let mut in_line = 0;
        let slot = |_| {
            if in_line == line {
                in_line = 0;
                return Slot::Newline;
            }
            in_line += 1;
            *next += 1;
            Slot::Visual(*next - 1)
        };
        (0..self.len()).map(slot).collect()
    }
}
