//! How a checkpoint writes reasoning: markers from its template or tokenizer, and turns with an empty one.

use std::collections::BTreeMap;

use isr_api::{ReasoningFormat, ReasoningMarkers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::stops::Probe;
use super::tokens::Tokens;

/// Markers that checkpoints are known to use.
const KNOWN: [[&str; 2]; 4] = [
    ["<think>", "</think>"],
    ["<thinking>", "</thinking>"],
    ["<reasoning>", "</reasoning>"],
    ["\u{25c1}think\u{25b7}", "\u{25c1}/think\u{25b7}"],
];

/// Reasoning before answers, which is trained on with them, and left out where answers are judged and measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ReasoningConfig {
    /// A choice by name.
    Mode(ReasoningMode),
    /// Markers of this checkpoint.
    Markers(ReasoningMarkers),
}

/// Choice of the markers of reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningMode {
    /// Markers that the chat template or the tokenizer names.
    Auto,
    /// None: all that the model writes is its answer.
    Off,
}

impl Default for ReasoningConfig {
    fn default() -> Self {
        Self::Mode(ReasoningMode::Auto)
    }
}

impl ReasoningConfig {
    /// Returns whether this is the default.
    pub(crate) fn is_auto(&self) -> bool {
        *self == Self::default()
    }

    /// Checks markers of the config.
    ///
    /// # Errors
    /// Those of [`ReasoningMarkers::check`].
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::Markers(markers) => markers.check(),
            Self::Mode(_) => Ok(()),
        }
    }

    /// Finds the reasoning of a checkpoint: its markers are those that the generation prompt opens, else those that the
    /// template mentions, else those that are tokens of the tokenizer.
    pub(super) fn find(&self, template: &str, probe: &Probe, tokens: &Tokens) -> Option<ReasoningTurn> {
        let prompt = probe.prompt.as_deref().unwrap_or_default();
        let known = || KNOWN.map(|[open, close]| markers(open, close)).into_iter();
        let opening = |markers: &ReasoningMarkers| opening(markers, prompt).is_some();
        let mentioned = |markers: &ReasoningMarkers| {
            [&markers.open, &markers.close].iter().all(|it| template.contains(*it))
        };
        let tokenised = |markers: &ReasoningMarkers| {
            [&markers.open, &markers.close].iter().all(|it| tokens.id(it).is_some())
        };
        let found = match self {
            Self::Mode(ReasoningMode::Off) => None,
            Self::Markers(markers) => Some(markers.clone()),
            Self::Mode(ReasoningMode::Auto) => known()
                .find(opening)
                .or_else(|| known().find(mentioned))
                .or_else(|| known().find(tokenised)),
        };
        found.map(|markers| ReasoningTurn::new(markers, prompt))
    }
}

fn markers(open: &str, close: &str) -> ReasoningMarkers {
    ReasoningMarkers { open: open.to_owned(), close: close.to_owned() }
}

/// Returns the end of a prompt from the opening marker on, if it opens reasoning.
fn opening<'p>(markers: &ReasoningMarkers, prompt: &'p str) -> Option<&'p str> {
    let end = &prompt[prompt.rfind(markers.open.as_str())?..];
    (!end.contains(markers.close.as_str())).then_some(end)
}

/// Reasoning in turns of the assistant.
pub(super) struct ReasoningTurn {
    /// Markers, and whether prompts open reasoning.
    pub(super) format: ReasoningFormat,
    /// End of prompts that open reasoning, from the marker on.
    opening: Option<String>,
}

impl ReasoningTurn {
    /// Creates it from markers and a prompt of the template.
    fn new(markers: ReasoningMarkers, prompt: &str) -> Self {
        let opening = opening(&markers, prompt).map(str::to_owned);
        let opened = opening.is_some();
        Self { format: ReasoningFormat { markers, opened }, opening }
    }

    /// Returns the markers that the tokenizer calls special, by their ids.
    pub(super) fn special(&self, tokens: &Tokens) -> BTreeMap<u32, String> {
        let ReasoningMarkers { open, close } = &self.format.markers;
        let special = [open, close].into_iter().filter(|marker| tokens.special.contains(*marker));
        special.filter_map(|marker| Some((tokens.id(marker)?, marker.clone()))).collect()
    }

    /// Returns the form of what follows a rendered prompt; a template may open reasoning for some conversations alone.
    pub(super) fn behind(&self, prompt: &str) -> ReasoningFormat {
        let markers = &self.format.markers;
        let usual = self.opening.as_deref().is_some_and(|opening| prompt.ends_with(opening));
        let opened = usual || prompt.trim_end().ends_with(markers.open.as_str());
        ReasoningFormat { markers: markers.clone(), opened }
    }

    /// Returns the answer of an earlier turn: chat templates leave its reasoning out.
    pub(super) fn answer_of<'t>(&self, turn: &'t str) -> &'t str {
        match self.format.markers.answer_in(turn) {
            Some(answer) if answer.len() < turn.len() => answer.trim_start(),
            Some(whole) => whole,
            None => "",
        }
    }

    /// Ends the reasoning that a prompt opens before a turn, unless the turn does so itself.
    pub(super) fn closed(&self, prompt: &str, turn: String) -> String {
        let format = self.behind(prompt);
        let ReasoningMarkers { open, close } = &format.markers;
        if !format.opened {
            return turn;
        }
        if let Some(behind) = turn.trim_start().strip_prefix(open.as_str()) {
            return behind.to_owned();
        }
        match turn.contains(close.as_str()) {
            true => turn,
            // As Qwen3's and GLM-4.5's templates write an empty one.
            false if prompt.ends_with('\n') => format!("\n{close}\n\n{turn}"),
            false => format!("{close}\n{turn}"),
        }
    }
}
