//! Memory estimates. `isr inspect --help` and `docs/architecture.md` state the formulas.

use serde::Serialize;

use super::InspectConfig;
use crate::device::Precision;
use crate::model::text_config::TextConfig;

/// Rank for which LoRA's memory is estimated: the default of `training.lora`.
const RANK: f64 = 16.0;

/// Memory estimates for one device in bytes, activations included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Inference.
    pub inference: u64,
    /// LoRA training of rank 16 on all linear layers of the language model.
    pub lora: u64,
    /// LoRA training with gradient checkpointing.
    pub lora_checkpointing: u64,
    /// Full-parameter training.
    pub full: u64,
    /// Full-parameter training with gradient checkpointing.
    pub full_checkpointing: u64,
    /// Full-parameter training with 8-bit moments (`training.optimizer = "adamw_8bit"`).
    pub full_8bit: u64,
    /// The same with gradient checkpointing.
    pub full_8bit_checkpointing: u64,
    /// Full-parameter training with the optimiser's state on the CPU (`training.optimizer_state = "cpu"`).
    pub full_cpu: u64,
    /// The same with gradient checkpointing.
    pub full_cpu_checkpointing: u64,
    /// Host memory of the optimiser's state on the CPU.
    pub full_cpu_host: u64,
    /// Host memory of the optimiser's state on the CPU, with 8-bit moments.
    pub full_cpu_host_8bit: u64,
}

/// Bytes of both moments of a parameter in float32.
const MOMENTS: f64 = 8.0;

/// Bytes of both moments of a parameter in 8 bits: codes, and a float32 scale for each 256 of them.
const MOMENTS_8BIT: f64 = 2.0 + 2.0 * 4.0 / 256.0;

/// Bytes of a parameter's float32 master copy.
const MASTER: f64 = 4.0;

impl Memory {
    /// Estimates memory for `parameters` parameters and sequences of `length` tokens.
    pub(super) fn estimate(text: &TextConfig, parameters: u64, length: u64, given: &InspectConfig) -> Self {
        let width = match given.precision {
            Precision::Float32 => 4.0,
            Precision::Bfloat16 => 2.0,
        };
        let (all, length, batch) = (parameters as f64, length as f64, given.batch as f64);
        let (hidden, inner) = (text.hidden_size as f64, text.intermediate_size as f64);
        let (layers, vocabulary) = (text.num_hidden_layers as f64, text.vocab_size as f64);
        let cache = 2.0 * layers * (text.kv_heads() * text.head_dim()) as f64 * width;
        let weights = all * width;
        // Prompts are prefilled one at a time.
        let prefill = length * (8.0 * hidden + 3.0 * inner) * width;
        let inference = weights + batch * length * cache + prefill + 4.0 * batch * vocabulary;

        let sequences = 2.0 * batch;
        let layer = sequences * length * (16.0 * hidden + 6.0 * inner) * width;
        let answers = 12.0 * sequences * given.tokens as f64 * vocabulary;
        let kept = sequences * length * layers * hidden * width;
        let (plain, checkpointing) = (layers * layer + answers, kept + layer + answers);

        // Float32 master copies, and float32 sums of the gradients of several micro-batches.
        let (master, sums) = if width < 4.0 { (MASTER * all, 4.0 * all) } else { (0.0, 0.0) };
        // Without what the optimiser keeps.
        let trained = 2.0 * weights + sums;
        let (full, full_8bit) = (trained + master + MOMENTS * all, trained + master + MOMENTS_8BIT * all);
        let lora = weights + 16.0 * adapter(text);
        let bytes = |value: f64| value.round() as u64;
        Self {
            inference: bytes(inference),
            lora: bytes(lora + plain),
            lora_checkpointing: bytes(lora + checkpointing),
            full: bytes(full + plain),
            full_checkpointing: bytes(full + checkpointing),
            full_8bit: bytes(full_8bit + plain),
            full_8bit_checkpointing: bytes(full_8bit + checkpointing),
            full_cpu: bytes(trained + plain),
            full_cpu_checkpointing: bytes(trained + checkpointing),
            // Masters of float32 weights, too, so that these need not be fetched.
            full_cpu_host: bytes((MASTER + MOMENTS) * all),
            full_cpu_host_8bit: bytes((MASTER + MOMENTS_8BIT) * all),
        }
    }
}

/// Returns the number of LoRA parameters on all linear layers of the decoder.
fn adapter(text: &TextConfig) -> f64 {
    let (hidden, inner) = (text.hidden_size as f64, text.intermediate_size as f64);
    let (queries, keys) =
        ((text.num_attention_heads * text.head_dim()) as f64, (text.kv_heads() * text.head_dim()) as f64);
    let sides = 2.0 * (hidden + queries) + 2.0 * (hidden + keys) + 3.0 * (hidden + inner);
    RANK * sides * text.num_hidden_layers as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vicuna-7B's decoder: 6.74 B parameters.
    fn vicuna() -> TextConfig {
        let source = serde_json::json!({
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "vocab_size": 32000,
        });
        TextConfig::parse(&source, "llama").unwrap()
    }

    fn given(precision: Precision) -> InspectConfig {
        InspectConfig { frames: 8, size: [336, 336], batch: 1, tokens: 512, precision, verify: false }
    }

    #[test]
    fn a_7b_model_takes_what_it_is_known_to_take() {
        let estimate = |precision| Memory::estimate(&vicuna(), 7_060_000_000, 2560, &given(precision));
        let memory = estimate(Precision::Bfloat16);
        // 14.1 GB of weights, 1.3 GB of cache (0.5 MB a token).
        assert!((15.4e9..16.5e9).contains(&(memory.inference as f64)), "{memory:?}");
        // 20 bytes a parameter.
        assert!((141e9..146e9).contains(&(memory.full_checkpointing as f64)), "{memory:?}");
        assert!((15e9..20e9).contains(&(memory.lora_checkpointing as f64)), "{memory:?}");
        assert!(memory.lora > memory.lora_checkpointing && memory.full > memory.full_checkpointing);
        // 8 bytes a parameter, so that it fits one card of 80 GB, and 12 in the host's memory.
        assert!((56e9..60e9).contains(&(memory.full_cpu_checkpointing as f64)), "{memory:?}");
        assert!((84e9..86e9).contains(&(memory.full_cpu_host as f64)), "{memory:?}");
        // 14 bytes a parameter, and 6.
        assert!((99e9..103e9).contains(&(memory.full_8bit_checkpointing as f64)), "{memory:?}");
        assert!((42e9..43e9).contains(&(memory.full_cpu_host_8bit as f64)), "{memory:?}");
        // float32: 4 bytes more a weight in inference, 4 fewer in full training, which needs no copies.
        let wide = estimate(Precision::Float32);
        assert!(wide.inference > 19 * memory.inference / 10);
        assert_eq!(adapter(&vicuna()) as u64, 39_976_960);
    }
}
