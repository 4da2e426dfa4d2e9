//! Named random streams.
//!
//! Every random draw comes from a stream that is named by its purpose: (run seed, iteration, stage, subject).
//! Draws therefore do not depend on scheduling, on other draws, or on where a run was interrupted and resumed.

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

/// Derives the seeds of a run's random streams from the run seed, by BLAKE3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// Creates the streams of a run with this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Returns the 64-bit seed of the stream (`iteration`, `stage`, `subject`).
    pub fn seed(&self, iteration: u32, stage: &str, subject: &str) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes());
        hasher.update(&iteration.to_le_bytes());
        for part in [stage, subject] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        let mut bytes = [0_u8; 8];
        hasher.finalize_xof().fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Returns a ChaCha12 generator at the start of the stream (`iteration`, `stage`, `subject`).
    pub fn rng(&self, iteration: u32, stage: &str, subject: &str) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(self.seed(iteration, stage, subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_separate_and_stable() {
        let streams = Streams::new(7);
        assert_eq!(streams.seed(1, "judge", "a"), streams.seed(1, "judge", "a"));
        assert_ne!(streams.seed(1, "judge", "a"), streams.seed(2, "judge", "a"));
        assert_ne!(streams.seed(1, "judge", "a"), streams.seed(1, "judge", "b"));
        assert_ne!(streams.seed(1, "ab", "c"), streams.seed(1, "a", "bc"));
        assert_ne!(streams.seed(1, "judge", "a"), Streams::new(8).seed(1, "judge", "a"));
    }
}
