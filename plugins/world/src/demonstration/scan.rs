//! Scans: one word for each cell of a grid laid over a frame. They teach a new tower to see: every word
//! depends on one patch, so the gradient says where to look, as descriptions' does not.

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha12Rng;

use crate::clip::{Clip, half_size};
use crate::config::WorldConfig;

/// Cells along each side of a frame.
const CELLS: u32 = 4;

/// Share of a cell that an object's box must cover to be in it.
const LEAST_SHARE: f64 = 0.125;

/// What a scan asks for.
const WHAT: [&str; 3] = ["shapes", "colours", "motions"];

/// Which frame it is about, with its time.
const WHEN: [(&str, f64); 2] = [("first", 0.0), ("last", 1.0)];

/// Prompt and answer: the cells row by row, `none` where no object is.
pub(super) fn scan(rng: &mut ChaCha12Rng, world: &WorldConfig, clip: &Clip) -> (String, String) {
    let what = WHAT.choose(rng).copied().unwrap_or(WHAT[0]);
    let (when, time) = WHEN[usize::from(rng.random::<bool>())];
    let word = |at: usize| {
        let object = clip.facts.objects[at];
        match what {
            "shapes" => object.shape.word(),
            "colours" => object.colour.word(),
            _ => object.motion.word(),
        }
    };
    let cells = (0..CELLS).flat_map(|row| (0..CELLS).map(move |column| [column, row]));
    let words: Vec<_> = cells.map(|cell| occupant(world, clip, cell, time).map_or("none", word)).collect();
    (format!("scan the {what} of the {when} frame."), words.join(" "))
}

/// The object of which most is in a cell, if it is enough.
fn occupant(world: &WorldConfig, clip: &Clip, cell: [u32; 2], time: f64) -> Option<usize> {
    let side = f64::from(world.size) / f64::from(CELLS);
    let share = |at: usize| {
        let (placement, shape) = (&clip.placements[at], clip.facts.objects[at].shape);
        let (centre, half) = (placement.centre(time), half_size(shape).map(|half| half * placement.radius));
        let overlap = |axis: usize| {
            let start = f64::from(cell[axis]) * side;
            let (low, high) = (centre[axis] - half[axis], centre[axis] + half[axis]);
            (high.min(start + side) - low.max(start)).max(0.0) / side
        };
        overlap(0) * overlap(1)
    };
    let shares = (0..clip.placements.len()).map(|at| (at, share(at)));
    let most = shares.max_by(|a, b| a.1.total_cmp(&b.1))?;
    (most.1 >= LEAST_SHARE).then_some(most.0)
}

#[cfg(test)]
mod tests {
    use isr_core::Streams;

    use super::*;
    use crate::clip::Split;

    #[test]
    fn a_scan_names_objects_where_they_are_and_follows_their_motion() {
        let world = WorldConfig::default();
        let (mut unseen, mut all) = (0, 0);
        for index in 0..500 {
            let clip = Clip::generate(&world, Split::WarmStart, index);
            for time in [0.0, 1.0] {
                for (at, placement) in clip.placements.iter().enumerate() {
                    let cells = (0..CELLS).flat_map(|row| (0..CELLS).map(move |column| [column, row]));
                    let mine: Vec<_> =
                        cells.filter(|cell| occupant(&world, &clip, *cell, time) == Some(at)).collect();
                    let side = f64::from(world.size / CELLS);
                    let centre = placement.centre(time).map(|pixel| (pixel / side) as i64);
                    let near = |cell: &[u32; 2]| {
                        (0..2).all(|axis| (i64::from(cell[axis]) - centre[axis]).abs() <= 1)
                    };
                    assert!(mine.iter().all(near), "{} {mine:?}", clip.name());
                    unseen += usize::from(mine.is_empty());
                    all += 1;
                }
            }
        }
        // A small object on a corner fills an eighth of none of four cells.
        assert!(unseen * 20 < all, "{unseen} of {all}");
    }

    #[test]
    fn a_scan_has_a_word_for_each_cell() {
        let world = WorldConfig::default();
        let mut rng = Streams::new(1).rng(0, "test", "scan");
        let clip = Clip::generate(&world, Split::WarmStart, 3);
        for _ in 0..20 {
            let (prompt, answer) = scan(&mut rng, &world, &clip);
            assert!(prompt.starts_with("scan the ") && prompt.ends_with(" frame."), "{prompt}");
            let words: Vec<_> = answer.split(' ').collect();
            assert_eq!(words.len(), 16);
            assert!(words.contains(&"none") && words.iter().any(|word| *word != "none"));
        }
    }
}
