//! Row layout of each format.

use std::path::Path;

use isr_api::Role;
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
        let texts = texts.into_iter().chain(pair.turns.iter().map(|turn| &turn.text));
        let has_placeholder = |text: &String| PLACEHOLDERS.iter().any(|it| text.contains(it));
        !(by_text && texts.into_iter().any(has_placeholder))
    }

    /// Whether the format can hold the pair's earlier turns.
    pub(crate) fn holds_turns(self, pair: &Pair) -> bool {
        self != Self::LlavaHound || pair.turns.is_empty()
    }

    /// A pair as one JSON object.
    pub(crate) fn row(self, pair: &Pair) -> Value {
        let Pair { id, video, prompt, reasoning, p_chosen, .. } = pair;
        let [chosen, rejected] = match self {
            Self::Trl => [pair.chosen.clone(), pair.rejected.clone()],
            _ => [reasoned(&reasoning[0], &pair.chosen), reasoned(&reasoning[1], &pair.rejected)],
        };
        let mut row = match self {
            // Texts, not lists of blocks: `datasets` would give each block the keys of all, as nulls, and
            // chat templates take a block with a key `video` for a video.
            Self::Trl => json!({
                "prompt": turns(pair, false, openai),
                "chosen": [assistant(&chosen, reasoning[0].as_deref())],
                "rejected": [assistant(&rejected, reasoning[1].as_deref())],
            }),
            Self::MsSwift => {
                let mut messages = turns(pair, true, openai);
                messages.push(json!({"role": "assistant", "content": chosen}));
                json!({ "messages": messages, "rejected_response": rejected })
            }
            Self::LlamaFactory => json!({
                "conversations": turns(pair, true, sharegpt),
                "chosen": {"from": "gpt", "value": chosen},
                "rejected": {"from": "gpt", "value": rejected},
            }),
            Self::LlavaHound => {
                let key = if is_image(video) { "image" } else { "video" };
                let mut row = json!({ "id": id, key: video, "prompt": prompt });
                row["chosen"] = chosen.into();
                row["rejected"] = rejected.into();
                row["p_chosen"] = (*p_chosen).into();
                if let (true, Some(row)) = (video.is_empty(), row.as_object_mut()) {
                    row.shift_remove(key);
                }
                return row;
            }
        };
        if !video.is_empty() {
            row[if is_image(video) { "images" } else { "videos" }] = json!([video]);
        }
        row
    }
}

/// Endings of image files.
const IMAGES: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];

fn is_image(path: &str) -> bool {
    let ending = Path::new(path).extension().unwrap_or_default().to_string_lossy().to_lowercase();
    IMAGES.contains(&ending.as_str())
}

/// Turns up to the answer; with `marked`, the first user turn begins with the marker of the pair's video or image.
fn turns(pair: &Pair, marked: bool, form: fn(Role, &str) -> Value) -> Vec<Value> {
    let marker = match pair.video.as_str() {
        "" => "",
        video if is_image(video) => "<image>\n",
        _ => "<video>\n",
    };
    let mut marker = if marked { marker } else { "" };
    let earlier = pair.turns.iter().map(|turn| (turn.role, turn.text.as_str()));
    let turn = |(role, text): (Role, &str)| match role {
        Role::User => form(role, &format!("{}{text}", std::mem::take(&mut marker))),
        _ => form(role, text),
    };
    earlier.chain([(Role::User, pair.prompt.as_str())]).map(turn).collect()
}

/// An answer behind its reasoning, as reasoning models write both.
fn reasoned(reasoning: &Option<String>, answer: &str) -> String {
    match reasoning {
        Some(reasoning) => format!("<think>\n{reasoning}\n</think>\n\n{answer}"),
        None => answer.to_owned(),
    }
}

/// The assistant's message, with its reasoning under the key that chat templates read.
fn assistant(answer: &str, reasoning: Option<&str>) -> Value {
    let mut message = openai(Role::Assistant, answer);
    if let Some(reasoning) = reasoning {
        message["reasoning_content"] = reasoning.into();
    }
    message
}

fn openai(role: Role, text: &str) -> Value {
    json!({ "role": role, "content": text })
}

fn sharegpt(role: Role, text: &str) -> Value {
    let from = match role {
        Role::System => "system",
        Role::User => "human",
        Role::Assistant => "gpt",
    };
    json!({ "from": from, "value": text })
}
