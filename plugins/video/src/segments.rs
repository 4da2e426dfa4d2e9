//! Frames of the segments of a video, drawn at random.
//!
//! With one offset for all segments, frames are as far apart as evenly spaced ones, as video models were trained to see
//! them and as time positions of equal steps have them (Qwen2.5-VL); no more than a segment's length lies between two
//! frames. With an offset for each segment, two frames are between one frame and two segments apart.

use isr_api::Streams;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Offsets at which frames are taken from segments of a video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Offsets {
    /// One offset for all segments, so that frames are evenly spaced. The default.
    #[default]
    Shared,
    /// An offset for each segment, as in temporal segment networks, so that gaps between frames vary.
    Independent,
}

impl Offsets {
    /// Whether it is the default, which is left out of written configs.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(crate) fn is_shared(&self) -> bool {
        *self == Self::Shared
    }
}

/// Index of the frame that is taken of each of `count` segments of `n` frames: non-decreasing, and rising where there are as
/// many frames as segments. Segment `k` has the frames from `k n / count` to before `(k + 1) n / count`, rounded down.
/// Without a seed its middle is taken, the later one of two.
pub(crate) fn choose(n: usize, count: usize, offsets: Offsets, seed: Option<u64>) -> Vec<usize> {
    if n == 0 {
        return Vec::new();
    }
    let streams = seed.map(Streams::new);
    let frame = |segment: usize| {
        let (start, end) = (segment * n / count, (segment + 1) * n / count);
        let number = match offsets {
            Offsets::Shared => 0,
            Offsets::Independent => segment as u32,
        };
        let offset = match streams {
            Some(streams) => scaled(streams.seed(number, "offset", ""), end - start),
            None => (end - start) / 2,
        };
        start + offset
    };
    (0..count).map(frame).collect()
}

/// Scales 64 uniform bits to an integer below `length`; 0 for a length of 0.
fn scaled(bits: u64, length: usize) -> usize {
    ((u128::from(bits) * length as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_a_draw_the_middle_of_each_segment_is_taken() {
        let middle = |n, count| choose(n, count, Offsets::Shared, None);
        // TSN's `_get_test_indices`: int(tick / 2 + tick * k) with tick = n / count.
        assert_eq!(middle(24, 3), [4, 12, 20]);
        assert_eq!(middle(300, 8), [18, 56, 93, 131, 168, 206, 243, 281]);
        assert_eq!((middle(25, 1), middle(1, 1), middle(4, 4)), (vec![12], vec![0], vec![0, 1, 2, 3]));
        assert_eq!(choose(0, 4, Offsets::Shared, Some(1)), Vec::<usize>::new());
    }

    #[test]
    fn each_frame_of_a_segment_is_drawn_equally_often() {
        for offsets in [Offsets::Shared, Offsets::Independent] {
            let mut counts = [0_usize; 20];
            for seed in 0..4000 {
                choose(20, 4, offsets, Some(seed)).into_iter().for_each(|frame| counts[frame] += 1);
            }
            // 800 expected, with a standard deviation of 25.
            assert!(counts.iter().all(|count| (675..=925).contains(count)), "{offsets:?} {counts:?}");
        }
    }

    #[test]
    fn shared_offsets_are_equal_and_independent_ones_are_not_related() {
        let mut equal = 0;
        for seed in 0..4000 {
            let shared = choose(40, 4, Offsets::Shared, Some(seed));
            assert!(shared.windows(2).all(|pair| pair[1] - pair[0] == 10), "{shared:?}");
            let independent = choose(40, 4, Offsets::Independent, Some(seed));
            equal += usize::from(independent[0] % 10 == independent[3] % 10);
        }
        // A tenth, with a standard deviation of 19.
        assert!((305..=495).contains(&equal), "{equal}");
    }

    #[test]
    fn draws_stay_the_same() {
        // With others a run would go on with other frames than it began with.
        let first = |seed| choose(300, 4, Offsets::Shared, Some(seed))[0];
        assert_eq!([0, 1, 2, 3, 4, 5].map(first), [5, 10, 31, 67, 69, 52]);
        assert_eq!(choose(300, 4, Offsets::Independent, Some(0)), [5, 91, 208, 236]);
    }

    proptest! {
        #[test]
        fn frames_are_of_their_segments(n in 1_usize..3000, count in 1_usize..70, seed: u64, shared: bool) {
            let offsets = if shared { Offsets::Shared } else { Offsets::Independent };
            for seed in [Some(seed), None] {
                let chosen = choose(n, count, offsets, seed);
                prop_assert_eq!(chosen.len(), count);
                for (segment, &frame) in chosen.iter().enumerate() {
                    prop_assert!(frame < n && segment * n / count <= frame);
                    prop_assert!(n < count || frame < (segment + 1) * n / count);
                }
                prop_assert!(chosen.is_sorted());
                let rises = chosen.windows(2).all(|pair| pair[0] < pair[1]);
                prop_assert!(rises == (n >= count || count == 1));
            }
        }

        #[test]
        fn shared_offsets_are_evenly_spaced(n in 2_usize..3000, count in 2_usize..70, seed: u64) {
            let chosen = choose(n, count, Offsets::Shared, Some(seed));
            let gaps: Vec<usize> = chosen.windows(2).map(|pair| pair[1] - pair[0]).collect();
            // Segments differ by one frame in their length, and so may offsets.
            prop_assert!(gaps.iter().max().unwrap() - gaps.iter().min().unwrap() <= 3);
        }
    }
}
