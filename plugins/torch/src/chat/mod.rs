//! Chat: template, tokenizer, and placement of visual features, from a prompt to token and feature slots.

mod bounds;
mod clock;
mod functions;
mod marks;
mod meter;
mod reasoning;
mod source;
mod stops;
mod template;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{Continuation, Frames, Part, Prompt, ReasoningFormat, Role, VideoInput};
use serde_json::{Value, json};
use tch::Tensor;

use crate::error::{Result, TorchError};
use crate::json_file;
use crate::model::config::Placeholder;
use crate::model::positions::Positions;
use crate::model::prompt_layout::{FeatureBlock, PromptLayout};
use crate::model::{ModelConfig, Sequence, Slot};
use clock::Clock;
use marks::marked;
use reasoning::ReasoningTurn;
pub use reasoning::{ReasoningConfig, ReasoningMode};
#[cfg(feature = "hub")]
pub(crate) use source::ADDITIONAL;
use source::TemplateSource;
pub(crate) use source::additional_templates;
use stops::Stops;
use template::Template;
use tokens::Tokens;

/// Question of [`Chat::example`].
const EXAMPLE_QUESTION: &str = "What happens in the video?";

/// Checks a date of the config, `YYYY-MM-DD`.
///
/// # Errors
/// A text that is not a date.
pub(crate) fn check_date(text: &str) -> std::result::Result<(), String> {
    Clock::parse(text).map(|_| ())
}

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
        let last = self.slots.iter().rposition(|slot| !matches!(slot, Slot::Token(_)));
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
    tokens: Tokens,
    template: Template,
    source: TemplateSource,
    /// Date that the template asks for, if it does.
    date: Option<String>,
    bos: String,
    /// Placeholder of a video in rendered text, such as `<image>` or `<video>`.
    placeholder: String,
    /// Token of the placeholder; `None` if text is split at it.
    visual_token: Option<u32>,
    /// Content type of a video in the template: `image` or `video`.
    content_type: &'static str,
    /// Texts that are tokens of the template alone, in what users write.
    reserved: BTreeSet<String>,
    /// The same in what an assistant wrote, which may contain tokens that the tokenizer does not call special.
    reserved_of_assistant: BTreeSet<String>,
    /// End-of-turn tokens.
    stops: Stops,
    /// How the model writes reasoning; `None` for one that writes none.
    reasoning: Option<ReasoningTurn>,
    /// Whether the config chose it.
    chosen_reasoning: bool,
    /// Markers of reasoning that the tokenizer calls special, by their ids: texts of responses keep them.
    shown: BTreeMap<u32, String>,
    /// Context length of the model in tokens.
    context: usize,
}

/// Chat template and stop tokens of a checkpoint, for display.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ChatSummary {
    /// Place of the chat template.
    pub template: String,
    /// Date that the template asks for and is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Tokens at which an answer ends.
    pub stop_tokens: Vec<String>,
    /// Token that ends an answer that is scored or trained on.
    pub answer_end: String,
    /// Form in which the model writes reasoning before answers, if it is known to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningFormat>,
}

impl Chat {
    /// Reads tokenizer and template of a checkpoint folder; `date` is what the template is told if it asks.
    ///
    /// # Errors
    /// A missing or invalid tokenizer, one with more tokens than the embedding, no template, one that is not supported,
    /// or no end-of-turn token.
    pub(crate) fn read(
        folder: &Path,
        config: &ModelConfig,
        date: Option<&str>,
        reasoning: &ReasoningConfig,
    ) -> Result<Self> {
        let tokens = Tokens::read(folder)?;
        let settings = json_file::read_optional(&folder.join("tokenizer_config.json"))?;
        let built_in = match config.placeholder {
            Placeholder::Text(_, built_in) => Some(built_in),
            _ => None,
        };
        let source = TemplateSource::find(folder, &settings, built_in)?;
        let largest = tokens.count() as i64;
        if largest > config.text.vocab_size {
            let reason =
                format!("has {largest} tokens, the model's embedding only {}", config.text.vocab_size);
            return Err(TorchError::checkpoint(folder.join("tokenizer.json"), reason));
        }
        Self::new(folder, config, tokens, source, &settings, date, reasoning)
    }

    fn new(
        folder: &Path,
        config: &ModelConfig,
        tokens: Tokens,
        source: TemplateSource,
        settings: &Value,
        date: Option<&str>,
        reasoning: &ReasoningConfig,
    ) -> Result<Self> {
        let special = |key: &str| -> String {
            let value = &settings[key];
            value.as_str().or_else(|| value["content"].as_str()).unwrap_or_default().to_owned()
        };
        let (bos, eos) = (special("bos_token"), special("eos_token"));
        let (placeholder, visual_token) = match config.placeholder {
            Placeholder::Text(text, _) => (text.to_owned(), None),
            Placeholder::Token(id) | Placeholder::Expanded(_, id) => {
                let token = tokens.text(id).ok_or_else(|| {
                    let reason = format!("has no token {id}, which config.json names as the visual token");
                    TorchError::checkpoint(folder.join("tokenizer.json"), reason)
                })?;
                match config.placeholder {
                    Placeholder::Expanded(text, _) => (text.to_owned(), Some(id)),
                    _ => (token, Some(id)),
                }
            }
        };
        let clock = Clock::fixed_or_now(date);
        let today = clock.as_ref().ok().and_then(|clock| clock.strftime("%F %T").ok());
        let template = Template::new(folder, &source, [bos.clone(), eos.clone()], || clock)?;
        let date = today.filter(|_| template.asks_for_date);
        let probe = stops::Probe::new(&template)?;
        let chosen_reasoning = !reasoning.is_auto();
        let reasoning = reasoning.find(&source.text, &probe, &tokens);
        let stops = Stops::read(folder, config, &tokens, &eos, &probe)?;
        let shown = reasoning.as_ref().map_or_else(BTreeMap::new, |turn| turn.special(&tokens));
        let mut reserved_of_assistant = tokens.special.clone();
        // What separates reasoning from an answer in a turn of the assistant.
        reserved_of_assistant.retain(|token| !shown.values().any(|marker| marker == token));
        reserved_of_assistant.insert(placeholder.clone());
        reserved_of_assistant.extend(visual_token.and_then(|id| tokens.text(id)));
        reserved_of_assistant.extend(stops.all().iter().filter_map(|id| tokens.text(*id)));
        let mut reserved = reserved_of_assistant.clone();
        reserved.extend(shown.values().cloned());
        reserved.extend(
            tokens.ordinary_added().into_iter().filter(|token| source.text.contains(token.as_str())),
        );
        reserved.retain(|token| !token.trim().is_empty());
        reserved_of_assistant.retain(|token| !token.trim().is_empty());
        Ok(Self {
            template,
            source,
            date,
            bos,
            placeholder,
            visual_token,
            content_type: config.content_type,
            reserved,
            reserved_of_assistant,
            stops,
            reasoning,
            chosen_reasoning,
            shown,
            context: config.text.max_position_embeddings,
            tokens,
        })
    }

    /// Returns everything that determines tokens of a text, for fingerprints.
    pub(crate) fn identity(&self) -> String {
        let template = self.source.text.replace("{% generation %}", "").replace("{% endgeneration %}", "");
        let date = self.date.as_ref().map_or_else(String::new, |date| format!(" {date}"));
        // Empty as it was before reasoning was separated, where prompts open none and no config chose.
        let reasoning = match self.reasoning() {
            format if self.chosen_reasoning => format!(" {format:?}"),
            Some(format) if format.opened => format!(" {format:?}"),
            _ => String::new(),
        };
        format!("{template} {} {:?}{date}{reasoning}", self.tokens.json(), self.stops.all())
    }

    /// Returns the tokens that end the assistant's turn.
    pub(crate) fn stops(&self) -> &[u32] {
        self.stops.all()
    }

    /// Describes template and stop tokens.
    pub(crate) fn summary(&self) -> ChatSummary {
        let name = |id: &u32| self.tokens.text(*id).unwrap_or_else(|| id.to_string());
        ChatSummary {
            template: self.source.place.clone(),
            date: self.date.clone(),
            stop_tokens: self.stops.all().iter().map(name).collect(),
            answer_end: name(&self.stops.end()),
            reasoning: self.reasoning.as_ref().map(|turn| turn.format.clone()),
        }
    }

    /// Returns the date that the template is told, if it asks for it.
    pub(crate) fn date(&self) -> Option<&str> {
        self.date.as_deref()
    }

    /// Decodes tokens to trimmed text without special tokens and without the end of the turn.
    pub(crate) fn decode(&self, ids: &[u32]) -> Result<String> {
        let ids = match ids {
            [before @ .., last] if self.stops.all().contains(last) => before,
            all => all,
        };
        Ok(self.decode_part(ids)?.trim().to_owned())
    }

    /// Decodes some tokens of an answer, with surrounding white space and markers of reasoning.
    pub(crate) fn decode_part(&self, ids: &[u32]) -> Result<String> {
        let (mut text, mut start) = (String::new(), 0);
        for (at, id) in ids.iter().enumerate() {
            if let Some(marker) = self.shown.get(id) {
                text += &self.tokens.decode(&ids[start..at])?;
                text += marker;
                start = at + 1;
            }
        }
        Ok(text + &self.tokens.decode(&ids[start..])?)
    }

    /// Returns the form of reasoning in responses, for prompts that the template ends as usual.
    pub(crate) fn reasoning(&self) -> Option<&ReasoningFormat> {
        self.reasoning.as_ref().map(|turn| &turn.format)
    }

    /// Returns the form of reasoning in responses to a rendered prompt.
    pub(crate) fn reasoning_behind(&self, prompt: &Rendered) -> Option<ReasoningFormat> {
        self.reasoning.as_ref().map(|turn| turn.behind(&prompt.text))
    }

    /// Renders and tokenises a prompt up to the assistant's turn. `layout` lays the features of a video out.
    ///
    /// # Errors
    /// A prompt that the template refuses or that is too long, or a template that loses a video.
    pub(crate) fn render(
        &self,
        prompt: &Prompt,
        layout: impl Fn(&Frames) -> Result<PromptLayout>,
    ) -> Result<Rendered> {
        let parts = || prompt.messages.iter().flat_map(|message| &message.parts);
        self.tokens.check_length(parts().map(text_len).sum(), self.context)?;
        let messages = self.messages(prompt);
        let text = self.template.render(&messages, true)?;
        let scenes: Vec<VideoInput> = parts().filter_map(scene).collect();
        let layouts: Vec<PromptLayout> =
            scenes.iter().map(|scene| layout(&scene.frames)).collect::<Result<_>>()?;
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
                    slots.extend(block.slots(&mut next_feature));
                    match block {
                        FeatureBlock::Row(_) | FeatureBlock::Lines { .. } => {
                            positions.push_text(block.len())
                        }
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

    /// Renders a question about one video: the text that the template writes, with its placeholder for the features.
    ///
    /// # Errors
    /// A template that refuses the conversation, or does not write one placeholder for the video.
    pub(crate) fn example(
        &self,
        frames: Frames,
        layout: impl Fn(&Frames) -> Result<PromptLayout>,
    ) -> Result<String> {
        let video = VideoInput { video: PathBuf::new(), frames: Arc::new(frames), features: None };
        Ok(self.render(&Prompt::about(&video, EXAMPLE_QUESTION), layout)?.text)
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

    /// Tokenises a continuation as it follows the rendered prompt. An answer ends as the template ends it, and begins as the
    /// template begins it: with an empty reasoning, where the template writes one.
    ///
    /// # Errors
    /// An answer that the template refuses or that is too long.
    pub(crate) fn continuation(&self, prompt: &Rendered, continuation: &Continuation) -> Result<Vec<u32>> {
        self.scored_continuation(prompt, continuation).map(|(ids, _)| ids)
    }

    /// Tokenises a continuation; with the number of its first tokens that are no part of its score, those of the empty
    /// reasoning before the beginning of an answer.
    ///
    /// # Errors
    /// Those of [`continuation`](Self::continuation).
    pub(crate) fn scored_continuation(
        &self,
        prompt: &Rendered,
        continuation: &Continuation,
    ) -> Result<(Vec<u32>, usize)> {
        let (answer, complete) = match continuation {
            Continuation::Tokens(ids) => return Ok((ids.clone(), 0)),
            Continuation::Answer(text) => (text, true),
            Continuation::Prefix(text) => (text, false),
        };
        self.tokens.check_length(answer.len(), self.context)?;
        let answer = marked(answer, &self.reserved_of_assistant);
        let turn = self.turn(prompt, &answer)?;
        if !complete {
            let before = self.reasoning_before(prompt, &turn)?;
            let from = before.len();
            // The template may strip an answer.
            let written = [&*answer, answer.trim()];
            let end = written.iter().find_map(|text| Some(from + turn[from..].find(text)? + text.len()));
            let ids = self.encode_behind(&prompt.text, &turn[..end.unwrap_or(turn.len())])?;
            let before = self.encode_behind(&prompt.text, before)?;
            let alike = ids.iter().zip(&before).take_while(|(one, other)| one == other).count();
            // A token of the answer is scored even where it is one with what stands before it.
            let unscored = alike.min(ids.len().saturating_sub(1));
            return Ok((ids, unscored));
        }
        let mut ids = self.encode_behind(&prompt.text, &turn)?;
        match ids.iter().position(|id| self.stops.all().contains(id)) {
            // The assistant's turn ends here; templates may write more, such as a newline.
            Some(stop) => ids.truncate(stop + 1),
            // transformers' LLaVA templates end the turn with a space instead of a token.
            None => {
                ids = self.encode_behind(&prompt.text, turn.trim_end())?;
                ids.push(self.stops.end());
            }
        }
        Ok((ids, 0))
    }

    /// Returns the empty reasoning that a turn begins with, up to its answer; empty where there is none.
    fn reasoning_before<'t>(&self, prompt: &Rendered, turn: &'t str) -> Result<&'t str> {
        let close = self.reasoning.as_ref().map(|reasoning| reasoning.format.markers.close.as_str());
        let Some(close) = close.filter(|close| turn.contains(close)) else { return Ok("") };
        let outline = self.turn(prompt, stops::ANSWER)?;
        let before = outline.split(stops::ANSWER).next().unwrap_or_default();
        let begins = before.contains(close) && turn.starts_with(before);
        Ok(if begins { &turn[..before.len()] } else { "" })
    }

    /// Returns the text of an assistant's turn as it follows the rendered prompt.
    fn turn(&self, prompt: &Rendered, answer: &str) -> Result<String> {
        let full = self.template.render(&answered(&prompt.messages, answer), false)?;
        let closed = |turn: String| match &self.reasoning {
            Some(reasoning) => reasoning.closed(&prompt.text, turn),
            None => turn,
        };
        if let Some(turn) = full.strip_prefix(&prompt.text) {
            return Ok(closed(turn.to_owned()));
        }
        // The turn of a conversation may begin in another way than the generation prompt, as in LLaVA-OneVision. What
        // follows the generation prompt is then the answer and what the template writes behind it.
        let outline = self.template.render(&answered(&prompt.messages, stops::ANSWER), false)?;
        let written = outline.rsplit_once(stops::ANSWER).and_then(|(head, tail)| {
            let written = full.strip_prefix(head)?.strip_suffix(tail)?;
            Some(closed(format!("{written}{tail}")))
        });
        written.ok_or_else(|| {
            let text =
                "it writes an answer in another way than other answers, so that its tokens are not known";
            TorchError::Template(text.to_owned())
        })
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
        self.tokens.encode(turn, false)
    }

    /// Tokenises a text and marks its placeholders.
    fn pieces(&self, text: &str) -> Result<Vec<Piece>> {
        // No second BOS if the template has written one.
        let add_special = self.bos.is_empty() || !text.starts_with(&self.bos);
        if let Some(visual) = self.visual_token {
            let piece = |id| if id == visual { Piece::Visual } else { Piece::Token(id) };
            return Ok(self.tokens.encode(text, add_special)?.into_iter().map(piece).collect());
        }
        // As `tokenizer_image_token` of the LLaVA repositories: each part is tokenised by itself.
        let mut pieces = Vec::new();
        for (index, part) in text.split(self.placeholder.as_str()).enumerate() {
            if index > 0 {
                pieces.push(Piece::Visual);
            }
            if index == 0 || !part.is_empty() {
                let ids = self.tokens.encode(part, add_special && index == 0)?;
                pieces.extend(ids.into_iter().map(Piece::Token));
            }
        }
        Ok(pieces)
    }

    fn messages(&self, prompt: &Prompt) -> Value {
        let message = |message: &isr_api::Message| {
            let (role, reserved) = match message.role {
                Role::System => ("system", &self.reserved),
                Role::User => ("user", &self.reserved),
                Role::Assistant => ("assistant", &self.reserved_of_assistant),
            };
            // Earlier turns have no reasoning.
            let reasoning = self.reasoning.as_ref().filter(|_| message.role == Role::Assistant);
            let part = |part: &Part| match part {
                Part::Text(text) => {
                    let text = reasoning.map_or(text.as_str(), |turn| turn.answer_of(text));
                    json!({ "type": "text", "text": marked(text, reserved) })
                }
                Part::Video(_) => json!({ "type": self.content_type }),
            };
            let parts: Vec<Value> = message.parts.iter().map(part).collect();
            json!({ "role": role, "content": parts })
        };
        Value::Array(prompt.messages.iter().map(message).collect())
    }
}

/// Appends an assistant's turn to a conversation.
fn answered(messages: &Value, answer: &str) -> Value {
    let turn = json!({ "role": "assistant", "content": [{ "type": "text", "text": answer }] });
    Value::Array(messages.as_array().into_iter().flatten().cloned().chain([turn]).collect())
}

fn scene(part: &Part) -> Option<VideoInput> {
    match part {
        Part::Video(scene) => Some(scene.clone()),
        Part::Text(_) => None,
    }
}

fn text_len(part: &Part) -> usize {
    match part {
        Part::Text(text) => text.len(),
        Part::Video(_) => 0,
    }
}

#[cfg(test)]
mod reasoning_tests;
#[cfg(test)]
mod tests;
