//! Attention windows of Qwen2.5-VL's tower.

use crate::model::pixel_values::PatchGrid;

/// Permutation of merged patches that makes windows contiguous, and the windows' lengths.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Windows {
    /// Merged patch at each place of the permutation.
    pub(super) order: Vec<i64>,
    /// Inverse permutation.
    pub(super) back: Vec<i64>,
    /// Number of patches in each window.
    pub(super) lengths: Vec<i64>,
}

impl Windows {
    /// Computes windows of `side x side` merged patches for each step of a grid; those at the right and lower edge are
    /// smaller.
    pub(super) fn new(grid: PatchGrid, merge: i64, side: i64) -> Self {
        let (rows, columns) = (grid.height / merge, grid.width / merge);
        let mut order = Vec::new();
        let mut lengths = Vec::new();
        for step in 0..grid.steps {
            for top in (0..rows).step_by(side as usize) {
                for left in (0..columns).step_by(side as usize) {
                    let before = order.len();
                    for row in top..(top + side).min(rows) {
                        let start = (step * rows + row) * columns;
                        order.extend(start + left..start + (left + side).min(columns));
                    }
                    lengths.push((order.len() - before) as i64 * merge * merge);
                }
            }
        }
        let mut back = vec![0; order.len()];
        for (place, &patch) in order.iter().enumerate() {
            back[patch as usize] = place as i64;
        }
        Self { order, back, lengths }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_each_step_and_shrink_at_the_edges() {
        let windows = Windows::new(PatchGrid { steps: 1, height: 6, width: 8 }, 2, 2);
        assert_eq!(windows.order, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11]);
        assert_eq!(windows.lengths, [16, 16, 8, 8]);
        assert!((0..12).all(|patch| windows.order[windows.back[patch] as usize] == patch as i64));
        let two = Windows::new(PatchGrid { steps: 2, height: 4, width: 4 }, 2, 2);
        assert_eq!((two.order[4], two.lengths), (4, vec![16, 16]));
    }
}
