//! Batch and prefix cache of an engine, derived from its device's free memory where the config leaves them open.

use tch::Device;

use crate::model::VideoLmm;
use crate::operators;

/// Tokens that an answer adds to the KV cache: its own with the question, and its share of the copy of its video's prefix.
const TOKENS_AN_ANSWER: u64 = 1280;

/// Sizes of an engine's batch and cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Answers that are decoded at once.
    pub(crate) batch: usize,
    /// Bound of the prefix cache in MiB.
    pub(crate) prefix_cache_mb: usize,
}

impl Capacity {
    /// What a CPU takes: results there depend on the batch size, not on the other answers in the batch.
    const CPU: Self = Self { batch: 16, prefix_cache_mb: 2048 };

    /// Takes what is given, and chooses the rest for a loaded model; `training` bytes are left to the optimiser. A device
    /// that does not tell its free memory gets what a CPU does.
    pub(crate) fn choose(
        (batch, prefix_cache_mb): (Option<usize>, Option<usize>),
        model: &VideoLmm,
        training: u64,
    ) -> Self {
        let chosen = match model.device {
            Device::Cuda(index) if batch.is_none() || prefix_cache_mb.is_none() => {
                match operators::free_memory(index) {
                    Ok(free) => Self::within(free.saturating_sub(training), model.token_bytes()),
                    Err(error) => {
                        tracing::warn!(%error, "free memory is not known; set policy.batch and prefix_cache_mb");
                        Self::CPU
                    }
                }
            }
            _ => Self::CPU,
        };
        Self {
            batch: batch.unwrap_or(chosen.batch),
            prefix_cache_mb: prefix_cache_mb.unwrap_or(chosen.prefix_cache_mb),
        }
    }

    /// Divides memory that is free: a quarter is for prefills, logits and micro-batches, and half of the rest for each.
    fn within(free: u64, token_bytes: u64) -> Self {
        let half = free / 8 * 3;
        let answers = half / (TOKENS_AN_ANSWER * token_bytes).max(1);
        Self {
            batch: (answers / 8 * 8).clamp(8, 128) as usize,
            prefix_cache_mb: (half >> 20).max(256) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_and_cache_grow_with_the_memory_that_the_model_leaves() {
        const GB: u64 = 1_000_000_000;
        // Keys and values of a token in bfloat16.
        let (llama_7b, qwen3_8b) = (2 * 32 * 4096 * 2, 2 * 36 * 8 * 128 * 2);
        let batch = |free: u64, token| Capacity::within(free, token).batch;
        assert_eq!(batch(135 * GB, llama_7b), 72, "an H200 beside 14 GB");
        assert_eq!(batch(66 * GB, llama_7b), 32, "an H100 beside 14 GB");
        assert_eq!(batch(66 * GB, qwen3_8b), 128);
        assert_eq!(batch(10 * GB, llama_7b), 8, "a card of 24 GB");
        assert_eq!(
            Capacity::within(135 * GB, llama_7b).prefix_cache_mb,
            48_279,
            "44 videos of 2,080 tokens"
        );
        // Nothing is free: what is missing is said by the first operation that needs it.
        assert_eq!(Capacity::within(0, llama_7b), Capacity { batch: 8, prefix_cache_mb: 256 });
    }
}
