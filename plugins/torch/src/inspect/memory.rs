//! Memory estimates. `isr inspect --help` and `docs/architecture.md` state the formulas.

use serde::Serialize;

use super::InspectConfig;
use crate::device::Precision;
use crate::model::text_config::TextConfig;
use crate::train::ShardConfig;

/// Rank for which LoRA's memory is estimated: the default of `training.lora`.
const RANK: f64 = 16.0;

/// Memory estimates for one device in bytes, activations included; of several processes, for the device of each.
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
    /// Estimates memory for `parameters` parameters, of which `in_layers` are the decoder layers', and sequences of `length`
    /// tokens. `four_bits` are the parameters and the bytes of each weight in 4 bits, which inference and LoRA have.
    pub(super) fn estimate(
        text: &TextConfig,
        [parameters, in_layers]: [u64; 2],
        four_bits: &[[u64; 2]],
        length: u64,
        given: &InspectConfig,
    ) -> Self {
        let width = match given.precision {
            Precision::Float32 => 4.0,
            Precision::Bfloat16 => 2.0,
        };
        let (all, length, batch) = (parameters as f64, length as f64, given.batch as f64);
        let (hidden, inner) = (text.hidden_size as f64, text.active_inner() as f64);
        let (layers, vocabulary) = (text.num_hidden_layers as f64, text.vocab_size as f64);
        let cache = 2.0 * layers * (text.kv_heads() * text.head_dim()) as f64 * width;
        let spared = spared(four_bits, width);
        let weights = all * width - spared;
        // Prompts are prefilled one at a time.
        let prefill = length * (8.0 * hidden + 3.0 * inner) * width;
        let inference = weights + batch * length * cache + prefill + 4.0 * batch * vocabulary;

        let sequences = 2.0 * batch;
        let layer = sequences * length * (16.0 * hidden + 6.0 * inner) * width;
        let answers = 12.0 * sequences * given.tokens as f64 * vocabulary;
        let kept = sequences * length * layers * hidden * width;
        let (plain, checkpointing) = (layers * layer + answers, kept + layer + answers);

        let division = Division::new(given, [all, in_layers as f64], layers, width);
        // Divided layers are always recomputed.
        let plain = if division.shard == ShardConfig::Full { checkpointing } else { plain };
        let master = if width < 4.0 { MASTER } else { 0.0 };
        let full = |moments: f64, activations: f64| division.full(master + moments, activations);
        let on_cpu = |activations: f64| division.full(0.0, activations);
        let lora = |activations: f64| division.lora(adapter(text), activations) - spared;
        let bytes = |value: f64| value.round() as u64;
        Self {
            inference: bytes(inference),
            lora: bytes(lora(plain)),
            lora_checkpointing: bytes(lora(checkpointing)),
            full: bytes(full(MOMENTS, plain)),
            full_checkpointing: bytes(full(MOMENTS, checkpointing)),
            full_8bit: bytes(full(MOMENTS_8BIT, plain)),
            full_8bit_checkpointing: bytes(full(MOMENTS_8BIT, checkpointing)),
            full_cpu: bytes(on_cpu(plain)),
            full_cpu_checkpointing: bytes(on_cpu(checkpointing)),
            // Masters of float32 weights, too, so that these need not be fetched.
            full_cpu_host: bytes(division.share_of_state((MASTER + MOMENTS) * all)),
            full_cpu_host_8bit: bytes(division.share_of_state((MASTER + MOMENTS_8BIT) * all)),
        }
    }
}

/// Returns the bytes that weights in 4 bits take less than dense ones of `width` bytes, beside the largest pair of layers, which
/// are dense for a product.
fn spared(four_bits: &[[u64; 2]], width: f64) -> f64 {
    let dense = four_bits.iter().map(|[count, _]| *count as f64 * width);
    let largest = dense.clone().fold(0.0, f64::max);
    let bytes: u64 = four_bits.iter().map(|[_, bytes]| bytes).sum();
    (dense.sum::<f64>() - bytes as f64 - 2.0 * largest).max(0.0)
}

/// Division of a model over processes.
struct Division {
    shard: ShardConfig,
    processes: f64,
    /// Parameters.
    all: f64,
    /// Those of the decoder's layers.
    in_layers: f64,
    /// Those of one layer.
    layer: f64,
    /// Bytes of a weight.
    width: f64,
}

impl Division {
    fn new(given: &InspectConfig, [all, in_layers]: [f64; 2], layers: f64, width: f64) -> Self {
        // A single process divides nothing.
        let shard = if given.processes > 1 { given.shard } else { ShardConfig::None };
        let processes = given.processes.max(1) as f64;
        Self { shard, processes, all, in_layers, layer: in_layers / layers, width }
    }

    /// Returns a process's share of the optimiser's state.
    fn share_of_state(&self, bytes: f64) -> f64 {
        if self.shard == ShardConfig::None { bytes } else { bytes / self.processes }
    }

    /// Returns a device's bytes in a step that trains all weights, with `state` bytes a parameter on it.
    fn full(&self, state: f64, activations: f64) -> f64 {
        // Gradients, and float32 sums of those of several micro-batches.
        let gradient = self.width + if self.width < 4.0 { 4.0 } else { 0.0 };
        let share_of_sum = 4.0 * self.all / self.processes;
        let gradients = match self.shard {
            ShardConfig::None => gradient * self.all,
            ShardConfig::Optimizer => gradient * self.all + share_of_sum,
            ShardConfig::Full => gradient * (self.all - self.in_layers) + share_of_sum,
        };
        // A layer's gradients, and twice in float32, on their way to the shares.
        let layer = (self.width + 8.0) * self.layer;
        self.weights_with(activations, layer) + gradients + self.share_of_state(state * self.all)
    }

    /// Returns a device's bytes in a step that trains an adapter of so many float32 parameters.
    fn lora(&self, adapter: f64, activations: f64) -> f64 {
        let share_of_sum =
            if self.shard == ShardConfig::None { 0.0 } else { 4.0 * adapter / self.processes };
        let trained = 8.0 * adapter + share_of_sum + self.share_of_state(MOMENTS * adapter);
        self.weights_with(activations, 0.0) + trained
    }

    /// Returns the bytes of weights and activations. Divided layers are whole between steps; in a step there are a process's
    /// share of them, one layer gathered and on its way, and `layer` bytes for its gradients.
    fn weights_with(&self, activations: f64, layer: f64) -> f64 {
        let whole = self.width * self.all;
        if self.shard != ShardConfig::Full {
            return whole + activations;
        }
        let outside = self.width * (self.all - self.in_layers);
        let shares = self.width * self.in_layers / self.processes;
        (outside + shares + 2.0 * self.width * self.layer + layer + activations).max(whole)
    }
}

/// Returns the number of LoRA parameters on all linear layers of the decoder.
fn adapter(text: &TextConfig) -> f64 {
    let (hidden, inner) = (text.hidden_size as f64, text.intermediate_size as f64);
    let (queries, keys) =
        ((text.num_attention_heads * text.head_dim()) as f64, (text.kv_heads() * text.head_dim()) as f64);
    let attention = 2.0 * (hidden + queries) + 2.0 * (hidden + keys);
    // Experts have no adapters.
    let dense = (0..text.num_hidden_layers).filter(|&layer| text.experts_of(layer).is_none()).count();
    RANK * (attention * text.num_hidden_layers as f64 + 3.0 * (hidden + inner) * dense as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::nf4::Nf4;

    /// Vicuna-7B's decoder: 6.74 B parameters.
    fn vicuna() -> TextConfig {
        let source = serde_json::json!({
            "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "vocab_size": 32000,
        });
        TextConfig::parse(&source, "llama").unwrap()
    }

    fn given(precision: Precision) -> InspectConfig {
        InspectConfig {
            frames: 8,
            size: [336, 336],
            batch: 1,
            tokens: 512,
            precision,
            verify: false,
            processes: 1,
            shard: ShardConfig::None,
            quantization: None,
        }
    }

    /// Of 7.06 B parameters, 32 layers of 202.4 M.
    const PARAMETERS: [u64; 2] = [7_060_000_000, 32 * 202_383_360];

    #[test]
    fn a_7b_model_is_trained_in_full_on_eight_cards_of_80_gb() {
        let estimate = |processes, shard| {
            let given = InspectConfig { processes, shard, ..given(Precision::Bfloat16) };
            Memory::estimate(&vicuna(), PARAMETERS, &[], 2560, &given)
        };
        let one = estimate(1, ShardConfig::None);
        assert_eq!(estimate(1, ShardConfig::Full), one, "one process divides nothing");
        assert_eq!(estimate(8, ShardConfig::None), one);
        // 12 bytes a parameter are divided by 8, beside 8 and a share of 4: 9.5 and 0.5 and activations.
        let optimizer = estimate(8, ShardConfig::Optimizer);
        assert!((69e9..75e9).contains(&(optimizer.full_checkpointing as f64)), "{optimizer:?}");
        assert_eq!(optimizer.full_cpu_host, one.full_cpu_host.div_ceil(8));
        let full = estimate(8, ShardConfig::Full);
        assert!((28e9..36e9).contains(&(full.full_checkpointing as f64)), "{full:?}");
        assert_eq!(full.full, full.full_checkpointing, "divided layers are recomputed");
        // It does not fall below the whole weights, which sampling needs.
        let many = estimate(1000, ShardConfig::Full);
        assert!(many.full_checkpointing > 14_120_000_000, "{many:?}");
        assert!(full.lora_checkpointing < optimizer.lora_checkpointing);
    }

    #[test]
    fn a_7b_model_in_4_bits_is_trained_on_a_card_of_12_gb() {
        let given = given(Precision::Bfloat16);
        let layer = |count: u64| [count, Nf4::bytes_of(count, false)];
        let four_bits: Vec<[u64; 2]> = (0..32)
            .flat_map(|_| [[4096 * 4096; 4].as_slice(), &[4096 * 11008; 3]].concat())
            .map(layer)
            .collect();
        let dense = Memory::estimate(&vicuna(), PARAMETERS, &[], 2560, &given);
        let memory = Memory::estimate(&vicuna(), PARAMETERS, &four_bits, 2560, &given);
        // 6.48 B weights of 4.5 bits for 16, and two of 11008 x 4096 dense.
        let spared = dense.lora_checkpointing - memory.lora_checkpointing;
        assert!((9.0e9..9.2e9).contains(&(spared as f64)), "{spared}");
        assert_eq!(dense.inference - memory.inference, spared);
        assert!(memory.lora_checkpointing < 12_000_000_000, "{memory:?}");
        assert_eq!(dense.full, memory.full);
    }

    #[test]
    fn a_7b_model_takes_what_it_is_known_to_take() {
        let estimate = |precision| Memory::estimate(&vicuna(), PARAMETERS, &[], 2560, &given(precision));
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
