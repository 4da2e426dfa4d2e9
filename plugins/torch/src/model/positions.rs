//! Positions of a sequence on the three axes of M-RoPE (arXiv 2409.12191): time, height, width. Models without M-RoPE
//! use the first.

use tch::{Device, Tensor};

use crate::error::Result;

/// Positions of a prompt and of the tokens that follow it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    prompt: Vec<[i64; 3]>,
    /// Position of the next text token, behind the largest position on any axis.
    text: i64,
}

/// Grid of visual features with three-axis positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    /// Steps along time.
    pub(crate) steps: usize,
    /// Rows of a step.
    pub(crate) rows: usize,
    /// Columns of a row.
    pub(crate) columns: usize,
    /// Distance between steps on the time axis, in positions.
    pub(crate) interval: f32,
}

impl Grid {
    /// Returns the number of features.
    pub(crate) fn len(&self) -> usize {
        self.steps * self.rows * self.columns
    }
}

impl Positions {
    /// Appends `count` text tokens, for which all axes advance together.
    pub(crate) fn push_text(&mut self, count: usize) {
        for _ in 0..count {
            self.prompt.push([self.text; 3]);
            self.text += 1;
        }
    }

    /// Appends a grid, in which each axis counts from the grid's start. Text continues behind the largest position of all
    /// three axes: the rule of Qwen's training code (`get_rope_index_25` in `qwen-vl-finetune/qwenvl/data/rope2d.py` of
    /// Qwen3-VL) and of transformers up to 5.2. From 5.3 on, the forward pass of transformers continues behind the
    /// larger spatial side, and its `generate` behind the largest position.
    pub(crate) fn push_grid(&mut self, grid: Grid) {
        let start = self.text;
        self.text += grid.rows.max(grid.columns) as i64;
        for step in 0..grid.steps {
            // The references multiply and truncate in float32.
            let time = start.saturating_add((step as f32 * grid.interval) as i64);
            for row in 0..grid.rows as i64 {
                self.prompt
                    .extend((0..grid.columns as i64).map(|column| [time, start + row, start + column]));
            }
            self.text = self.text.max(time.saturating_add(1));
        }
    }

    /// Returns the difference between position and index behind the prompt: answers continue the text's count, as in
    /// transformers' `rope_deltas`.
    pub(crate) fn delta(&self) -> i64 {
        self.text - self.prompt.len() as i64
    }

    /// Returns the positions of slot `index` of a sequence that begins with the prompt.
    pub(crate) fn at(&self, index: usize) -> [i64; 3] {
        self.prompt.get(index).copied().unwrap_or([index as i64 + self.delta(); 3])
    }

    /// Returns the number of positions that a sequence of `length` slots needs in the context and the rotary tables.
    pub(crate) fn extent(&self, length: usize) -> usize {
        let furthest = (length as i64).saturating_add(self.delta()).max(self.text);
        usize::try_from(furthest).unwrap_or_default().max(length)
    }
}

/// Converts positions of consecutive tokens to a tensor `[3, 1, length]`.
pub(crate) fn tensor(positions: &[[i64; 3]], device: Device) -> Result<Tensor> {
    let flat: Vec<i64> = (0..3).flat_map(|axis| positions.iter().map(move |at| at[axis])).collect();
    let shape = [3, 1, positions.len() as i64];
    Ok(Tensor::f_from_slice(&flat)?.f_view(shape)?.f_to_device(device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_without_grids_counts() {
        let mut positions = Positions::default();
        positions.push_text(3);
        assert_eq!((positions.at(2), positions.at(7), positions.delta()), ([2; 3], [7; 3], 0));
        assert_eq!(Positions::default().at(5), [5; 3]);
    }

    #[test]
    fn text_stands_behind_the_largest_position_of_all_axes() {
        let mut positions = Positions::default();
        positions.push_text(1);
        positions.push_grid(Grid { steps: 3, rows: 2, columns: 2, interval: 10.0 });
        positions.push_text(1);
        assert_eq!(positions.at(12), [21, 2, 2]);
        assert_eq!((positions.at(13), positions.at(14)), ([22; 3], [23; 3]));
        // Fourteen slots reach to position 22, which needs its row of the tables.
        assert_eq!((positions.extent(14), positions.extent(20)), (23, 29));
        // A grid that is wider than long.
        positions.push_grid(Grid { steps: 2, rows: 1, columns: 5, interval: 1.0 });
        assert_eq!((positions.at(23), positions.at(24)), ([24, 23, 27], [28; 3]));
    }

    #[test]
    fn a_time_without_bounds_exceeds_every_context() {
        let mut positions = Positions::default();
        positions.push_grid(Grid { steps: 2, rows: 1, columns: 1, interval: f32::MAX });
        assert!(positions.extent(2) > 1 << 40);
    }

    #[test]
    fn axes_stand_one_behind_the_other() {
        let tensor = tensor(&[[0, 1, 2], [3, 4, 5]], Device::Cpu).unwrap();
        assert_eq!(tensor.size(), [3, 1, 2]);
        let flat: Vec<i64> = Vec::try_from(&tensor.f_flatten(0, 2).unwrap()).unwrap();
        assert_eq!(flat, [0, 3, 1, 4, 2, 5]);
    }
}
