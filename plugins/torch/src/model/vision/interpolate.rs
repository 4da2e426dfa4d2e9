//! Bilinear resampling of Qwen3-VL's learned position embeddings to a video's patch grid.

use tch::Tensor;

use crate::error::Result;
use crate::model::pixel_values::PatchGrid;

/// Taps of bilinear interpolation with aligned corners: four table rows and weights for each patch.
#[derive(Debug, PartialEq)]
pub(super) struct Taps {
    rows: Vec<i64>,
    weights: Vec<f32>,
}

impl Taps {
    /// Computes the taps of one step's patches, in merged order, for a table of `side x side` rows.
    pub(super) fn new(grid: PatchGrid, merge: i64, side: i64) -> Self {
        let mut taps = Self { rows: Vec::new(), weights: Vec::new() };
        for (row, column) in merged_order(grid, merge) {
            let (high, wide) = (axis(row, grid.height, side), axis(column, grid.width, side));
            for (from_top, share) in high {
                for (from_left, part) in wide {
                    taps.rows.push(from_top * side + from_left);
                    taps.weights.push(share * part);
                }
            }
        }
        taps
    }

    /// Interpolates embeddings `[patches, width]` from a table `[side * side, width]`.
    pub(super) fn apply(&self, table: &Tensor) -> Result<Tensor> {
        let (patches, width) = (self.weights.len() as i64 / 4, table.size()[1]);
        let rows = Tensor::f_from_slice(&self.rows)?.f_to_device(table.device())?;
        let weights = Tensor::f_from_slice(&self.weights)?.f_to_device(table.device())?;
        let taken = table.f_index_select(0, &rows)?.f_view([patches, 4, width])?;
        let weights = weights.f_view([patches, 4, 1])?;
        Ok(taken
            .f_mul(&weights)?
            .f_sum_dim_intlist([1_i64].as_slice(), false, None)?
            .f_to_kind(table.kind())?)
    }
}

/// Returns row and column of each patch of a step, in blocks of `merge x merge`.
pub(super) fn merged_order(grid: PatchGrid, merge: i64) -> Vec<(i64, i64)> {
    let mut order = Vec::with_capacity((grid.height * grid.width) as usize);
    for top in (0..grid.height).step_by(merge as usize) {
        for left in (0..grid.width).step_by(merge as usize) {
            for row in top..top + merge {
                order.extend((left..left + merge).map(|column| (row, column)));
            }
        }
    }
    order
}

/// Returns the two table entries around `index` of `size` and their weights, in float32 as transformers 5 computes
/// them.
fn axis(index: i64, size: i64, side: i64) -> [(i64, f32); 2] {
    let place = index as f32 * (side - 1) as f32 / (size - 1).max(1) as f32;
    let below = place.floor();
    let share = place - below;
    let entry = |offset: i64| (below as i64 + offset).clamp(0, side - 1);
    [(entry(0), 1.0 - share), (entry(1), 1.0 - (share - 1.0).abs())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_the_tables_corners() {
        assert_eq!(axis(0, 6, 4), [(0, 1.0), (1, 0.0)]);
        assert_eq!(axis(5, 6, 4), [(3, 1.0), (3, 0.0)]);
        assert_eq!(axis(0, 1, 4), [(0, 1.0), (1, 0.0)]);
        let middle = axis(1, 3, 4);
        assert_eq!(middle, [(1, 0.5), (2, 0.5)]);
    }

    #[test]
    fn merged_patches_come_together() {
        let order = merged_order(PatchGrid { steps: 1, height: 2, width: 4 }, 2);
        assert_eq!(order[..5], [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2)]);
    }
}
