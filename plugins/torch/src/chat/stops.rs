//! What the template writes around an answer, and the tokens at which an answer ends.

use std::path::Path;

use serde_json::{Value, json};

use super::template::Template;
use super::tokens::Tokens;
use crate::error::{Result, TorchError};
use crate::json_file;
use crate::model::ModelConfig;

/// Noncharacter that stands for an answer while the template is tried.
pub(super) const ANSWER: &str = "\u{FDD1}";

/// Texts that the template writes for a short conversation. A template may refuse it, which is no fault.
pub(super) struct Probe {
    /// Text with the generation prompt.
    pub(super) prompt: Option<String>,
    /// Text behind an answer.
    behind_answer: Option<String>,
}

impl Probe {
    /// Renders a short conversation.
    ///
    /// # Errors
    /// A template beyond its bounds.
    pub(super) fn new(template: &Template) -> Result<Self> {
        let question = json!([{ "role": "user", "content": [{ "type": "text", "text": "?" }] }]);
        let tried = |messages: &Value, add_generation_prompt| match template
            .render(messages, add_generation_prompt)
        {
            Err(error @ TorchError::TemplateLimit { .. }) => Err(error),
            outcome => Ok(outcome.ok()),
        };
        let prompt = tried(&question, true)?;
        let answered = tried(&super::answered(&question, ANSWER), false)?;
        let behind_answer = answered.and_then(|text| Some(text.rsplit_once(ANSWER)?.1.to_owned()));
        Ok(Self { prompt, behind_answer })
    }
}

/// End-of-turn tokens.
#[derive(Clone, Debug)]
pub(super) struct Stops {
    all: Vec<u32>,
    end: u32,
}

impl Stops {
    /// Returns the union of the tokens that `generation_config.json` (else `config.json`) and the tokenizer name, and
    /// of the token that the template writes directly behind an answer.
    ///
    /// # Errors
    /// No such token, or a file that is not JSON.
    pub(super) fn read(
        folder: &Path,
        config: &ModelConfig,
        tokens: &Tokens,
        eos: &str,
        probe: &Probe,
    ) -> Result<Self> {
        let generation = json_file::read_optional(&folder.join("generation_config.json"))?;
        let mut all: Vec<u32> = Vec::new();
        for value in
            [generation.get("eos_token_id"), config.text.eos_token_id.as_ref()].into_iter().flatten()
        {
            let listed = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            all.extend(listed.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()));
            if !all.is_empty() {
                break;
            }
        }
        all.retain(|id| i64::from(*id) < config.text.vocab_size);
        let written =
            probe.behind_answer.as_deref().and_then(|text| tokens.added_at_start(text.trim_start()));
        let first = all.first().copied();
        for id in [written, tokens.id(eos)].into_iter().flatten() {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        match written.or(first).or(all.first().copied()) {
            Some(end) => Ok(Self { all, end }),
            None => Err(TorchError::checkpoint(
                folder.join("generation_config.json"),
                "names no eos_token_id, nor does any other file",
            )),
        }
    }

    /// Returns all tokens at which an answer ends.
    pub(super) fn all(&self) -> &[u32] {
        &self.all
    }

    /// Returns the token behind an answer whose turn the template ends without one of them.
    pub(super) fn end(&self) -> u32 {
        self.end
    }
}
