//! `isr inspect`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use isr_api::{Error, ReasoningFormat};
use isr_dpo::{InspectConfig, Inspection, inspect};

use super::output::{print, print_line};

const FORMULAS: &str = "\
Memory, in bytes:
  P parameters in a type of b bytes; S sequences (--batch) of L tokens, T of them text (--tokens);
  a decoder of n layers of width h, MLP width m, k key and value heads of width d, vocabulary v
  inference    P b + S L (2 n k d b) + L (8 h + 3 m) b + 4 S v
  full         2 P b + 8 P + activations, and 8 P for master weights and gradient sums where b is 2;
               with 8-bit moments 2.03 P for 8 P; with the state on the CPU
               2 P b + activations, and 4 P for gradient sums where b is 2, beside 12 P of host memory
               (6.03 P with 8-bit moments)
  on each of N processes (--processes), D of P in the decoder's layers, s bytes of the optimiser's
  state a parameter (12 where b is 2, else 8; with 8-bit moments 6.03 or 2.03):
               --shard optimizer: s P / N for s P, and 4 P / N for a share of the gradients' sum
               --shard full: the same, gradients of P - D for P, and for weights and activations
               the larger of P b (between steps) and, with gradient checkpointing,
               (P - D) b + D b / N + (3 b + 8) D / n + activations (in a step)
  LoRA         P b + 16 A + activations; A is the size of an adapter of rank 16 on all linear
               layers of the decoder
  of Q weights in 4 bits (--quantization, or saved by bitsandbytes), for Q b in inference and LoRA:
               0.56 Q (0.52 Q with nf4_double) and twice the largest weight in b, decoded for a product
  activations  2 S L n (16 h + 6 m) b + 24 S T v: chosen and rejected answers
               2 S L (n h + 16 h + 6 m) b + 24 S T v with gradient checkpointing";

/// Tell what a model is, and what memory it needs
///
/// Reads configs and the headers of the weights, not the weights.
///
/// Memory is an estimate for one device; CUDA's own context (0.5 GB or so) and fragmentation come on top.
#[derive(Args)]
#[command(after_long_help = FORMULAS)]
pub(super) struct InspectArgs {
    /// A checkpoint folder, or an adapter's
    #[arg(value_name = "MODEL")]
    model: PathBuf,
    /// Frames of a video
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    frames: u32,
    /// Their width in pixels; it matters where an encoder takes frames of any size
    #[arg(long, value_name = "N", default_value_t = 640)]
    width: u32,
    /// Their height in pixels
    #[arg(long, value_name = "N", default_value_t = 360)]
    height: u32,
    /// Sequences at once: videos in inference, preference pairs in training
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: u64,
    /// Text tokens of a sequence, prompt and answer
    #[arg(long, value_name = "N", default_value_t = 512)]
    tokens: u64,
    /// Type that the model is loaded in
    #[arg(long, default_value = "bfloat16", value_parser = ["float32", "bfloat16"])]
    precision: String,
    /// Processes that train together, a device each; memory is that of one device
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=65536))]
    processes: u64,
    /// What the processes divide (`policy.training.parallel.shard`)
    #[arg(long, default_value = "none", value_parser = ["none", "optimizer", "full"])]
    shard: String,
    /// Quantisation of the decoder's linear layers at load (`policy.quantization`)
    #[arg(long, value_parser = ["nf4", "nf4_double"])]
    quantization: Option<String>,
    /// Compare every file with its digest in manifest.json
    #[arg(long)]
    verify: bool,
    /// Print one JSON object, sizes in bytes
    #[arg(long)]
    json: bool,
}

impl InspectArgs {
    pub(super) fn execute(&self) -> Result<()> {
        let config = InspectConfig {
            frames: self.frames,
            size: [self.width, self.height],
            batch: self.batch,
            tokens: self.tokens,
            precision: serde_json::from_value(self.precision.clone().into())?,
            verify: self.verify,
            processes: self.processes,
            shard: serde_json::from_value(self.shard.clone().into())?,
            quantization: self
                .quantization
                .clone()
                .map(|name| serde_json::from_value(name.into()))
                .transpose()?,
        };
        let found = inspect(&self.model, &config).map_err(|error| Error::Config(error.to_string()))?;
        match self.json {
            true => print_line(serde_json::to_string(&found)?),
            false => print(self.shown(&found)),
        }
    }

    fn shown(&self, found: &Inspection) -> String {
        let mut text = format!("{}\n", self.model.display());
        let mut line = |name: &str, value: String| text.push_str(&format!("  {name:<26}{value}\n"));
        line("family", found.family.clone());
        if let Some(adapter) = &found.adapter {
            line(
                "adapter",
                format!(
                    "{} of rank {}{}, {} parameters{}, on {}",
                    adapter.kind,
                    adapter.rank,
                    if adapter.patterns { " and by patterns" } else { "" },
                    count(adapter.parameters),
                    match adapter.saved_modules.join(", ") {
                        none if none.is_empty() => none,
                        modules => format!(" with {modules} in full"),
                    },
                    adapter.base
                ),
            );
        }
        line("parameters", count(found.parameters));
        if let Some(active) = found.active_parameters {
            line("  active for a token", count(active));
        }
        for part in &found.parts {
            line(&format!("  {}", part.name), count(part.parameters));
        }
        line(
            "stored as",
            format!(
                "{}, {} in {} file{}",
                found.dtypes.join(", "),
                bytes(found.bytes),
                found.files,
                if found.files == 1 { "" } else { "s" }
            ),
        );
        line("output layer", if found.tied_output_layer { "the embedding" } else { "its own" }.to_owned());
        line("tokens of the frames", found.visual_tokens.to_string());
        line("context", format!("{} tokens", found.context));
        let fits = if found.sequence > found.context { ", which exceeds the context" } else { "" };
        line(
            "one sequence",
            format!(
                "{} frames and {} text tokens: {} tokens{fits}",
                self.frames, self.tokens, found.sequence
            ),
        );
        if let Some(chat) = &found.chat {
            let date = chat.date.as_ref().map(|date| format!(", told that it is {date}"));
            line("chat template", format!("{}{}", chat.template, date.unwrap_or_default()));
            line("answers end at", chat.stop_tokens.join(", "));
            line("  scored with", chat.answer_end.clone());
            if let Some(ReasoningFormat { markers, opened }) = &chat.reasoning {
                let place = if *opened { ", opened by the prompt" } else { "" };
                line("  reasoning", format!("{} to {}{place}", markers.open, markers.close));
            }
        }
        if let Some(prompt) = &found.prompt {
            line("prompt", format!("{prompt:?}"));
        }
        if let Some(error) = &found.chat_error {
            line("chat template", format!("cannot be used: {error}"));
        }
        let of_process = match self.processes {
            1 => String::new(),
            count => format!(", on each of {count} devices, shard {}", self.shard),
        };
        text.push_str(&format!("memory in {}, batch {}{of_process}\n", self.precision, self.batch));
        let memory = &found.memory;
        for (name, value) in [
            ("inference", memory.inference),
            ("LoRA", memory.lora),
            ("LoRA, checkpointing", memory.lora_checkpointing),
            ("full", memory.full),
            ("full, checkpointing", memory.full_checkpointing),
            ("full, 8-bit moments", memory.full_8bit),
            ("full, 8-bit moments, checkpointing", memory.full_8bit_checkpointing),
            ("full, state on the CPU", memory.full_cpu),
            ("full, state on the CPU, checkpointing", memory.full_cpu_checkpointing),
            ("  and host memory", memory.full_cpu_host),
            ("  and host memory, 8-bit moments", memory.full_cpu_host_8bit),
        ] {
            text.push_str(&format!("  {name:<40}{}\n", bytes(value)));
        }
        text
    }
}

/// 7.06 B, 12.3 M, 512.
fn count(value: u64) -> String {
    scaled(value, &[(1e9, " B"), (1e6, " M"), (1e3, " k")], "")
}

/// Decimal units, as disks have them.
fn bytes(value: u64) -> String {
    scaled(value, &[(1e9, " GB"), (1e6, " MB"), (1e3, " kB")], " B")
}

fn scaled(value: u64, units: &[(f64, &str)], rest: &str) -> String {
    match units.iter().find(|(unit, _)| value as f64 >= *unit) {
        Some((unit, name)) => format!("{:.2}{name}", value as f64 / unit),
        None => format!("{value}{rest}"),
    }
}
