//! Row layout of each format.

use std::path::Path;

use serde_json::{Value, json};

use crate::export::error::ExportError;
use crate::export::pairs::Pair;

/// Data format of a trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TRL 1.16, conversational preference format with an explicit prompt.
    Trl,
    /// ms-swift 4.6, `rlhf`.
    MsSwift,
    /// LLaMA-Factory 0.9.5, ShareGPT with `ranking: true`.
    LlamaFactory,
    /// LLaVA-Hound, also read by data `jsonl`.
    LlavaHound,
}

/// Media placeholders of ms-swift and LLaMA-Factory.
const PLACEHOLDERS: [&str; 4] = ["<video>", "<image>", "<audio>", "<|video_pad|>"];

/// Column names in `dataset_info.json` of LLaMA-Factory.
pub(crate) const LLAMA_FACTORY_COLUMNS: [(&str, &str); 4] =
    [("messages", "conversations"), ("chosen", "chosen"), ("rejected", "rejected"), ("videos", "videos")];

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Trl, Self::MsSwift, Self::LlamaFactory, Self::LlavaHound];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trl => "trl",
            Self::MsSwift => "ms-swift",
            Self::LlamaFactory => "llama-factory",
            Self::LlavaHound => "llava-hound",
        }
    }

    /// Checks that the trainer accepts the file's extension.
    pub(crate) fn check_name(self, out: &Path) -> Result<(), ExportError> {
        let ending = out.extension().unwrap_or_default();
        let by_ending = matches!(self, Self::MsSwift | Self::LlamaFactory);
        match by_ending && ending != "json" && ending != "jsonl" {
            true => Err(ExportError::Name { path: out.to_owned(), format: self.name() }),
            false => Ok(()),
        }
    }

    /// Whether the pair's texts are free of the format's placeholders.
    pub(crate) fn takes(self, pair: &Pair) -> bool {
        let by_text = matches!(self, Self::MsSwift | Self::LlamaFactory);
        let texts = [&pair.prompt, &pair.chosen, &pair.rejected];
        !(by_text && texts.iter().any(|text| PLACEHOLDERS.iter().any(|it| text.contains(it))))
    }

    /// A pair as one JSON object.
    pub(crate) fn row(self, pair: &Pair) -> Value {
        let Pair { id, video, prompt, chosen, rejected, p_chosen } = pair;
        let with_video = format!("<video>\n{prompt}");
        match self {
            // Texts, not lists of blocks: `datasets` would give each block the keys of all, as nulls, and
            // chat templates take a block with a key `video` for a video.
            Self::Trl => json!({
                "prompt": [{"role": "user", "content": prompt}],
                "chosen": [{"role": "assistant", "content": chosen}],
                "rejected": [{"role": "assistant", "content": rejected}],
                "videos": [video],
            }),
            Self::MsSwift => json!({
                "messages": [
                    {"role": "user", "content": with_video},
                    {"role": "assistant", "content": chosen},
                ],
                "rejected_response": rejected,
                "videos": [video],
            }),
            Self::LlamaFactory => json!({
                "conversations": [{"from": "human", "value": with_video}],
                "chosen": {"from": "gpt", "value": chosen},
                "rejected": {"from": "gpt", "value": rejected},
                "videos": [video],
            }),
            Self::LlavaHound => json!({
                "id": id,
                "video": video,
                "prompt": prompt,
                "chosen": chosen,
                "rejected": rejected,
                "p_chosen": p_chosen,
            }),
        }
    }
}
