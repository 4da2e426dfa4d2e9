//! Layouts of preference pairs, as datasets and trainers have them.
//!
//! | layout | a row | source |
//! |---|---|---|
//! | `llava_hound` | `id`, `video`, `prompt`, `chosen`, `rejected` | LLaVA-Hound-DPO, `sft_dpo_17k.jsonl` (arXiv 2404.01258) |
//! | `vistadpo` | the same with `rejected_2`, which is not read | VistaDPO-7k (arXiv 2504.13122) |
//! | `rlaif_v` | `question`, `chosen`, `rejected`, `image` | RLAIF-V (arXiv 2405.17220), Parquet |
//! | `rrpo` | `question`, `answer`, `pred`, `video`; masked texts are not read | RRPO (arXiv 2504.12083) |
//! | `ms_swift` | `messages` that end in the chosen answer, `rejected_response` | ms-swift 4.6, `rlhf` |
//! | `llama_factory` | `conversations`, `chosen`, `rejected` as turns | LLaMA-Factory 0.9.5, ShareGPT with `ranking: true` |
//! | `trl` | `prompt`, `chosen`, `rejected` as texts or messages; the prompt may be their common beginning | TRL 1.16, `dataset_formats` |
//!
//! Videos and images stand under `videos`, `video`, `images` or `image`.

use std::path::PathBuf;

use isr_api::{Role, Turn};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::conversation::{answer, prompt, turn, turns, with_system};
use crate::layouts::RowLayout;
use crate::media::Media;
use crate::row::{Object, checked_part, missing, required};

/// Layout of the rows of preference pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreferenceLayout {
    /// LLaVA-Hound: `id`, `video`, `prompt`, `chosen`, `rejected`.
    LlavaHound,
    /// TRL: `prompt`, `chosen`, `rejected` as texts or messages, `images` or `videos`.
    Trl,
    /// ms-swift: `messages` that end in the chosen answer, `rejected_response`, `videos` or `images`.
    MsSwift,
    /// LLaMA-Factory's ShareGPT form: `conversations`, `chosen`, `rejected`, `videos` or `images`.
    LlamaFactory,
    /// VistaDPO: as `llava_hound`; `rejected_2` is not read.
    #[serde(rename = "vistadpo")]
    VistaDpo,
    /// RRPO: `question`, `answer`, `pred`, `video`.
    Rrpo,
    /// RLAIF-V: `question`, `chosen`, `rejected`, `image`.
    RlaifV,
}

impl RowLayout for PreferenceLayout {
    const ALL: &'static [Self] = &[
        Self::MsSwift,
        Self::LlamaFactory,
        Self::VistaDpo,
        Self::RlaifV,
        Self::Rrpo,
        Self::LlavaHound,
        Self::Trl,
    ];

    const READ: &'static [&'static str] = KEYS;

    fn name(self) -> &'static str {
        match self {
            Self::LlavaHound => "llava_hound",
            Self::Trl => "trl",
            Self::MsSwift => "ms_swift",
            Self::LlamaFactory => "llama_factory",
            Self::VistaDpo => "vistadpo",
            Self::Rrpo => "rrpo",
            Self::RlaifV => "rlaif_v",
        }
    }

    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::LlavaHound => &["video", "prompt", "chosen", "rejected"],
            Self::Trl => &["chosen", "rejected"],
            Self::MsSwift => &["messages", "rejected_response"],
            Self::LlamaFactory => &["conversations", "chosen", "rejected"],
            Self::VistaDpo => &["video", "prompt", "chosen", "rejected", "rejected_2"],
            Self::Rrpo => &["question", "answer", "pred"],
            Self::RlaifV => &["question", "chosen", "rejected"],
        }
    }

    fn fits(self, row: &Object) -> bool {
        self != Self::LlavaHound || row.get("prompt").is_some_and(Value::is_string)
    }
}

/// Keys that layouts read.
const KEYS: &[&str] = &[
    "id",
    "idx",
    "sample_id",
    "videos",
    "video",
    "images",
    "image",
    "start",
    "end",
    "prompt",
    "chosen",
    "rejected",
    "rejected_2",
    "p_chosen",
    "question",
    "answer",
    "pred",
    "messages",
    "rejected_response",
    "rejected_messages",
    "conversations",
    "system",
];

/// Content of a row, checked.
#[derive(Debug, PartialEq)]
pub(super) struct Pair {
    pub(super) id: Option<String>,
    pub(super) video: Option<PathBuf>,
    pub(super) turns: Vec<Turn>,
    pub(super) prompt: String,
    pub(super) chosen: String,
    pub(super) rejected: String,
    pub(super) p_chosen: Option<f64>,
}

/// Texts of a row, before they are checked.
pub(super) struct Texts {
    /// Key of the prompt, for messages.
    pub(super) key: &'static str,
    /// Turns up to the answer.
    pub(super) turns: Vec<Turn>,
    pub(super) chosen: (String, String),
    pub(super) rejected: (String, String),
}

impl PreferenceLayout {
    /// Reads a row.
    pub(super) fn read(self, row: &Object, media: Media<'_>) -> Result<Pair, String> {
        let texts = match self {
            Self::LlavaHound | Self::VistaDpo => plain(row, "prompt", "chosen", "rejected")?,
            Self::RlaifV => plain(row, "question", "chosen", "rejected")?,
            Self::Rrpo => plain(row, "question", "answer", "pred")?,
            Self::MsSwift => ms_swift(row)?,
            Self::LlamaFactory => llama_factory(row)?,
            Self::Trl => trl(row)?,
        };
        // Frames are written beside a video for TRL, which reads images alone.
        let video = media.of_row(row, self == Self::Trl)?;
        let video = checked_part(video, row.get("start"), row.get("end"))?;
        let id_key = ["id", "sample_id", "idx"].into_iter().find(|key| row.contains_key(*key));
        let id = id_key.map(|key| crate::row::id(row, key)).transpose()?;
        texts.check(id, video, row.get("p_chosen").and_then(Value::as_f64))
    }
}

impl Texts {
    /// Checks texts and markers.
    pub(super) fn check(
        self,
        id: Option<String>,
        video: Option<PathBuf>,
        p_chosen: Option<f64>,
    ) -> Result<Pair, String> {
        let (turns, prompt) = prompt(self.key, self.turns, video.is_some())?;
        let chosen = answer(&format!("`{}`", self.chosen.0), &self.chosen.1)?;
        let rejected = answer(&format!("`{}`", self.rejected.0), &self.rejected.1)?;
        if chosen.trim() == rejected.trim() {
            return Err(format!("`{}` and `{}` are the same text", self.chosen.0, self.rejected.0));
        }
        let p_chosen = p_chosen.filter(|p| (0.0..=1.0).contains(p));
        Ok(Pair { id, video, turns, prompt, chosen, rejected, p_chosen })
    }
}

fn user(text: String) -> Turn {
    Turn { role: Role::User, text }
}

fn named(row: &Object, key: &str) -> Result<(String, String), String> {
    Ok((key.to_owned(), required(row, key)?))
}

fn plain(row: &Object, key: &'static str, chosen: &str, rejected: &str) -> Result<Texts, String> {
    let turns = vec![user(required(row, key)?)];
    Ok(Texts { key, turns, chosen: named(row, chosen)?, rejected: named(row, rejected)? })
}

/// Takes the assistant's answer from the end of a conversation.
fn split_answer(key: &str, turns: &mut Vec<Turn>) -> Result<(String, String), String> {
    match turns.pop() {
        Some(Turn { role: Role::Assistant, text }) => Ok((key.to_owned(), text)),
        _ => Err(format!("`{key}` does not end with an assistant turn")),
    }
}

fn ms_swift(row: &Object) -> Result<Texts, String> {
    let value = row.get("messages").ok_or_else(|| missing(row, "messages"))?;
    let mut all = with_system(row, turns("messages", value)?)?;
    let chosen = split_answer("messages", &mut all)?;
    Ok(Texts { key: "messages", turns: all, chosen, rejected: named(row, "rejected_response")? })
}

fn llama_factory(row: &Object) -> Result<Texts, String> {
    let value = row.get("conversations").ok_or_else(|| missing(row, "conversations"))?;
    let all = with_system(row, turns("conversations", value)?)?;
    let one = |key: &str| {
        let answer = turn(key, row.get(key).ok_or_else(|| missing(row, key))?)?;
        match answer.role {
            Role::Assistant => Ok((key.to_owned(), answer.text)),
            _ => Err(format!("`{key}` is not the assistant's turn")),
        }
    };
    Ok(Texts { key: "conversations", turns: all, chosen: one("chosen")?, rejected: one("rejected")? })
}

/// Texts, messages with a prompt, or messages whose common beginning is the prompt.
fn trl(row: &Object) -> Result<Texts, String> {
    let value = |key: &str| row.get(key).filter(|it| !it.is_null()).ok_or_else(|| missing(row, key));
    let (chosen, rejected) = (value("chosen")?, value("rejected")?);
    if chosen.is_string() && rejected.is_string() {
        return match row.get("prompt") {
            Some(Value::Array(_)) => {
                let key = "prompt";
                let all = turns(key, value(key)?)?;
                Ok(Texts {
                    key,
                    turns: all,
                    chosen: named(row, "chosen")?,
                    rejected: named(row, "rejected")?,
                })
            }
            _ => plain(row, "prompt", "chosen", "rejected"),
        };
    }
    let (mut chosen, mut rejected) = (turns("chosen", chosen)?, turns("rejected", rejected)?);
    let mut all = match row.get("prompt") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => vec![user(text.clone())],
        Some(value) => turns("prompt", value)?,
    };
    let (good, bad) = (split_answer("chosen", &mut chosen)?, split_answer("rejected", &mut rejected)?);
    if chosen != rejected {
        return Err("`chosen` and `rejected` differ before their last turns".to_owned());
    }
    all.append(&mut chosen);
    let key = if row.contains_key("prompt") { "prompt" } else { "chosen" };
    Ok(Texts { key, turns: all, chosen: good, rejected: bad })
}
