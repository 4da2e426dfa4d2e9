//! Chat: template, tokenizer, and placement of visual features, from a prompt to token and feature slots.

use std::ops::Range;
use std::path::Path;

use isr_api::{Continuation, Frames, Part, Prompt, Role, VideoInput};
use minijinja::{Environment, context};
use serde_json::{Value, json};
use tch::Tensor;
use tokenizers::Tokenizer;

use crate::error::{Result, TorchError};
use crate::json_file;
use crate::model::config::Placeholder;
use crate::model::positions::Positions;
use crate::model::prompt_layout::{FeatureBlock, PromptLayout};
use crate::model::{ModelConfig, Sequence, Slot};

/// LLaVA's `v1` template (Vicuna), the fallback of checkpoints without a template.
const V1: &str = include_str!("v1.jinja");

/// Rendered and tokenised prompt.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    /// Tokens and visual features, in order.
    pub(crate) slots: Vec<Slot>,
    /// Positions of the slots.
    pub(crate) positions: Positions,
    /// Videos whose features are in `slots`, in order.
    pub(crate) scenes: Vec<VideoInput>,
    /// Rendered text before tokenisation.
    text: String,
    /// Messages as the template received them.
    messages: Value,
}

impl Rendered {
    /// Returns the whole prompt as a sequence without suffixes.
    pub(crate) fn sequence<'a>(&'a self, features: Option<&'a Tensor>) -> Sequence<'a> {
        self.part(0..self.slots.len(), features)
    }

    /// Returns a range of slots as a sequence without suffixes.
    pub(crate) fn part<'a>(&'a self, range: Range<usize>, features: Option<&'a Tensor>) -> Sequence<'a> {
        let (slots, positions) = (&self.slots[range.clone()], &self.positions);
        Sequence { slots, start: range.start, positions, features, suffixes: Vec::new() }
    }

    /// Returns the length of the cacheable prefix, which ends with the last video; 0 if there is no video or no text
    /// behind it.
    pub(crate) fn prefix(&self) -> usize {
        let last = self.slots.iter().rposition(|slot| matches!(slot, Slot::Visual(_)));
        last.map(|last| last + 1).filter(|end| *end < self.slots.len()).unwrap_or(0)
    }

    /// Returns the number of positions that the prompt and an answer of `answer` tokens need.
    pub(crate) fn extent(&self, answer: usize) -> usize {
        self.positions.extent(self.slots.len() + answer)
    }
}

/// Element of tokenised text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Token(u32),
    /// Placeholder of visual features.
    Visual,
}

/// Chat template and tokenizer of a checkpoint.
pub(crate) struct Chat {
    tokenizer: Tokenizer,
    template: String,
    bos: String,
    eos: String,
    /// Placeholder of a video in rendered text, such as `<image>` or `<video>`.
    placeholder: String,
    /// Token of the placeholder; `None` if text is split at it.
    visual_token: Option<u32>,
    /// Content type of a video in the template: `image` or `video`.
    content_type: &'static str,
    /// End-of-turn tokens.
    stops: Vec<u32>,
}

impl Chat {
    /// Reads tokenizer and template of a checkpoint folder.
    ///
    /// # Errors
    /// A missing or invalid tokenizer, one with more tokens than the embedding, or no end-of-turn token.
    pub(crate) fn read(folder: &Path, config: &ModelConfig) -> Result<Self> {
        let tokenizer = read_tokenizer(folder)?;
        let settings = json_file::read_optional(&folder.join("tokenizer_config.json"))?;
        let template = read_template(folder, &settings)?;
        let special = |key: &str| -> String {
            let value = &settings[key];
            value.as_str().or_else(|| value["content"].as_str()).unwrap_or_default().to_owned()
        };
        let (placeholder, visual_token) = match config.placeholder {
            Placeholder::Text(text) => (text.to_owned(), None),
            Placeholder::Token(id) => {
                let token = tokenizer.id_to_token(id).ok_or_else(|| {
                    let reason = format!("has no token {id}, which config.json names as the visual token");
                    TorchError::checkpoint(folder.join("tokenizer.json"), reason)
                })?;
                (token, Some(id))
            }
        };
        let largest = tokenizer.get_vocab_size(true) as i64;
        if largest > config.text.vocab_size {
            let reason =
                format!("has {largest} tokens, the model's embedding only {}", config.text.vocab_size);
            return Err(TorchError::checkpoint(folder.join("tokenizer.json"), reason));
        }
        let stops = stop_tokens(folder, config, &tokenizer, &special("eos_token"))?;
        Ok(Self {
            template,
            bos: special("bos_token"),
            eos: special("eos_token"),
            placeholder,
            visual_token,
            content_type: config.content_type,
            stops,
            tokenizer,
        })
    }

    /// Returns everything that determines tokens of a text, for fingerprints.
    pub(crate) fn identity(&self) -> String {
        let tokenizer = self.tokenizer.to_string(false).unwrap_or_else(|error| error.to_string());
        format!("{} {tokenizer} {:?}", self.template, self.stops)
    }

    /// Returns the tokens that end the assistant's turn.
    pub(crate) fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// Decodes tokens to trimmed text without special tokens.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String> {
        Ok(self.decode_part(ids)?.trim().to_owned())
    }

    /// Decodes some tokens of an answer, with surrounding white space.
    pub(crate) fn decode_part(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|error| TorchError::Tokenizer(error.to_string()))
    }

    /// Renders and tokenises a prompt up to the assistant's turn. `layout` lays the features of a video out.
    ///
    /// # Errors
    /// A prompt that the template refuses or that contains the placeholder, or a template that loses a video.
    pub(crate) fn render(
        &self,
        prompt: &Prompt,
        layout: impl Fn(&Frames) -> Result<PromptLayout>,
    ) -> Result<Rendered> {
        let messages = self.messages(prompt);
        let text = self.apply(&messages, true)?;
        let scenes: Vec<VideoInput> =
            prompt.messages.iter().flat_map(|message| &message.parts).filter_map(scene).collect();
        let layouts: Vec<PromptLayout> =
            scenes.iter().map(|scene| layout(&scene.frames)).collect::<Result<_>>()?;
        if text.matches(&self.placeholder).count() > scenes.len() {
            let text = format!("the text contains the model's own `{}`", self.placeholder);
            return Err(TorchError::Prompt(text));
        }
        let pieces = self.pieces(&self.expand(&text, &layouts))?;
        let mut blocks = layouts.iter().flat_map(|layout| &layout.blocks);
        let mut positions = Positions::default();
        let mut slots = Vec::with_capacity(pieces.len());
        let mut next_feature = 0;
        for piece in pieces {
            match (piece, blocks.by_ref()) {
                (Piece::Token(id), _) => {
                    slots.push(Slot::Token(id));
                    positions.push_text(1);
                }
                (Piece::Visual, blocks) => {
                    let Some(block) = blocks.next() else {
                        let text = format!("it wrote more than one `{}` for a video", self.placeholder);
                        return Err(TorchError::Template(text));
                    };
                    slots.extend((next_feature..next_feature + block.len()).map(Slot::Visual));
                    next_feature += block.len();
                    match block {
                        FeatureBlock::Row(count) => positions.push_text(*count),
                        FeatureBlock::Grid(grid) => positions.push_grid(*grid),
                    }
                }
            }
        }
        if blocks.next().is_some() {
            return Err(TorchError::Template(format!("it wrote no `{}` for a video", self.placeholder)));
        }
        Ok(Rendered { slots, positions, scenes, text, messages })
    }

    /// Replaces the template's placeholders by the texts of the layouts, in order.
    fn expand(&self, text: &str, layouts: &[PromptLayout]) -> String {
        let mut parts = text.split(self.placeholder.as_str());
        let mut expanded = parts.next().unwrap_or_default().to_owned();
        for (index, part) in parts.enumerate() {
            let written = layouts.get(index).and_then(|layout| layout.text.as_deref());
            expanded.push_str(written.unwrap_or(&self.placeholder));
            expanded.push_str(part);
        }
        expanded
    }

    /// Tokenises a continuation as it follows the rendered prompt.
    pub(crate) fn continuation(&self, prompt: &Rendered, continuation: &Continuation) -> Result<Vec<u32>> {
        let (answer, complete) = match continuation {
            Continuation::Tokens(ids) => return Ok(ids.clone()),
            Continuation::Answer(text) => (text, true),
            Continuation::Prefix(text) => (text, false),
        };
        let mut messages = prompt.messages.clone();
        if let Value::Array(list) = &mut messages {
            let content = json!([{ "type": "text", "text": answer }]);
            list.push(json!({ "role": "assistant", "content": content }));
        }
        let full = self.apply(&messages, false)?;
        let Some(turn) = full.strip_prefix(&prompt.text) else {
            return Err(TorchError::Template("the assistant's turn does not extend the prompt".to_owned()));
        };
        let end = match complete {
            true => turn.len(),
            false => turn.find(answer.as_str()).map_or(turn.len(), |start| start + answer.len()),
        };
        let mut ids = self.encode_behind(&prompt.text, &turn[..end])?;
        if complete {
            match ids.iter().position(|id| self.stops.contains(id)) {
                // The assistant's turn ends here; templates may write more, such as a newline.
                Some(stop) => ids.truncate(stop + 1),
                // transformers' LLaVA templates end the turn with a space instead of a token.
                None => {
                    ids = self.encode_behind(&prompt.text, turn.trim_end())?;
                    ids.extend(self.stops.first());
                }
            }
        }
        Ok(ids)
    }

    /// Tokenises `turn` as it follows `prompt`: the tokens that it adds, if those of the prompt stay the same.
    fn encode_behind(&self, prompt: &str, turn: &str) -> Result<Vec<u32>> {
        let before = self.pieces(prompt)?;
        let full = self.pieces(&format!("{prompt}{turn}"))?;
        if let Some(behind) = full.strip_prefix(before.as_slice()) {
            let token = |piece: &Piece| match piece {
                Piece::Token(id) => Ok(*id),
                Piece::Visual => {
                    let text = format!("the answer contains the model's own `{}`", self.placeholder);
                    Err(TorchError::Prompt(text))
                }
            };
            return behind.iter().map(token).collect();
        }
        // A merge across the boundary: the turn is tokenised by itself, as in generation.
        self.encode(turn, false)
    }

    /// Tokenises a text and marks its placeholders.
    fn pieces(&self, text: &str) -> Result<Vec<Piece>> {
        // No second BOS if the template has written one.
        let add_special = self.bos.is_empty() || !text.starts_with(&self.bos);
        if let Some(visual) = self.visual_token {
            let piece = |id| if id == visual { Piece::Visual } else { Piece::Token(id) };
            return Ok(self.encode(text, add_special)?.into_iter().map(piece).collect());
        }
        // As `tokenizer_image_token` of the LLaVA repositories: each part is tokenised by itself.
        let mut pieces = Vec::new();
        for (index, part) in text.split(self.placeholder.as_str()).enumerate() {
            if index > 0 {
                pieces.push(Piece::Visual);
            }
            if index == 0 || !part.is_empty() {
                let ids = self.encode(part, add_special && index == 0)?;
                pieces.extend(ids.into_iter().map(Piece::Token));
            }
        }
        Ok(pieces)
    }

    fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, add_special);
        Ok(encoding.map_err(|error| TorchError::Tokenizer(error.to_string()))?.get_ids().to_vec())
    }

    fn messages(&self, prompt: &Prompt) -> Value {
        let part = |part: &Part| match part {
            Part::Text(text) => json!({ "type": "text", "text": text }),
            Part::Video(_) => json!({ "type": self.content_type }),
        };
        let message = |message: &isr_api::Message| {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            let parts: Vec<Value> = message.parts.iter().map(part).collect();
            json!({ "role": role, "content": parts })
        };
        Value::Array(prompt.messages.iter().map(message).collect())
    }

    fn apply(&self, messages: &Value, add_generation_prompt: bool) -> Result<String> {
        let failed = |error: minijinja::Error| match refusal(&error) {
            Some(Refusal(message)) => {
                TorchError::Prompt(format!("the chat template refuses the conversation: {message}"))
            }
            None => TorchError::Template(error.to_string()),
        };
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        let template = environment.template_from_str(&self.template).map_err(failed)?;
        let values = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos,
            eos_token => self.eos,
        };
        template.render(values).map_err(failed)
    }
}

/// Message of a template's `raise_exception`, which refuses a conversation.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn raise_exception(message: String) -> std::result::Result<String, minijinja::Error> {
    let error = minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message.clone());
    Err(error.with_source(Refusal(message)))
}

/// Finds the refusal among the sources of a template error; each macro or loop adds one.
fn refusal(error: &minijinja::Error) -> Option<&Refusal> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source()).find_map(|error| error.downcast_ref())
}

fn scene(part: &Part) -> Option<VideoInput> {
    match part {
        Part::Video(scene) => Some(scene.clone()),
        Part::Text(_) => None,
    }
}

fn read_tokenizer(folder: &Path) -> Result<Tokenizer> {
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        let remedy = match folder.join("tokenizer.model").exists() {
            true => {
                "is missing; convert tokenizer.model with transformers: \
                     AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
            }
            false => "is missing",
        };
        return Err(TorchError::checkpoint(path, remedy));
    }
    Tokenizer::from_file(&path).map_err(|error| TorchError::checkpoint(&path, error.to_string()))
}

/// Reads `chat_template.jinja`, else the entry of `tokenizer_config.json`, else `v1`.
fn read_template(folder: &Path, settings: &Value) -> Result<String> {
    let path = folder.join("chat_template.jinja");
    let text = match path.exists() {
        true => std::fs::read_to_string(&path).map_err(TorchError::io("read", &path))?,
        false => settings["chat_template"].as_str().unwrap_or(V1).to_owned(),
    };
    // transformers' own tag marks the assistant's tokens for training and renders nothing.
    Ok(text.replace("{% generation %}", "").replace("{% endgeneration %}", ""))
}

/// Reads the end-of-turn tokens from `generation_config.json`, else `config.json`, else the tokenizer's `eos_token`.
fn stop_tokens(folder: &Path, config: &ModelConfig, tokenizer: &Tokenizer, eos: &str) -> Result<Vec<u32>> {
    let generation = json_file::read_optional(&folder.join("generation_config.json"))?;
    let given = [generation.get("eos_token_id").cloned(), config.text.eos_token_id.clone()];
    for value in given.into_iter().flatten() {
        let ids: Vec<u32> = match &value {
            Value::Array(list) => list.iter().filter_map(Value::as_u64).map(|id| id as u32).collect(),
            other => other.as_u64().map(|id| id as u32).into_iter().collect(),
        };
        if !ids.is_empty() {
            return Ok(ids);
        }
    }
    tokenizer.token_to_id(eos).map(|id| vec![id]).ok_or_else(|| {
        TorchError::checkpoint(
            folder.join("generation_config.json"),
            "names no eos_token_id, nor does any other file",
        )
    })
}

#[cfg(test)]
mod tests;
