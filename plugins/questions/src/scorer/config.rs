//! The config of a scorer, and the evaluator `questions`.

use std::fmt;
use std::sync::Arc;

use isr_api::{BuildContext, Cause, Component, Evaluator};
use isr_chat::{ChatClient, ServerConfig};
use isr_config::bounds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::evaluator::QuestionsEvaluator;
use super::marker::Scorer;
use super::prompt::Prompt;
use crate::error::QuestionsError;

/// Who asks, in error messages.
const ROLE: &str = "scorer";

/// Evaluator of answers to questions with a reference answer, by a published scorer: a model behind an
/// OpenAI-compatible server, or a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScorerConfig {
    /// The scorer: `score_1_5`, `yes_no_0_5`, `exact`, `options` or `yes_no_pairs`. Required.
    pub scorer: ScorerKind,
    /// The server that is asked by `score_1_5` and `yes_no_0_5`. Required for these, and for no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerConfig>,
    /// Whose form of `yes_no_0_5` is used: prompt, parameters and reading of replies of `video-chatgpt` or of
    /// `llava-hound`. Default `video-chatgpt`.
    #[serde(default)]
    pub form: Form,
    /// Prompt in place of the published one, with `{caption}`, `{question}`, `{answer}` and `{prediction}`; `{{` is a
    /// brace. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Maximum length of a prediction in words, at least 1; the rest is cut off before it is scored. Default: that of the
    /// published script, 256 of LLaVA-Hound's and none of Video-ChatGPT's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_words: Option<usize>,
    /// What a reply counts that does not state its score as asked: what it counts in the `published` script, or nothing
    /// (`leave_out`). It is counted as unparsed either way. Default `published`.
    #[serde(default)]
    pub unparsed: Unparsed,
    /// Maximum number of requests for a prediction until a reply can be read, at least 1. Default 1, as LLaVA-Hound's
    /// script; Video-ChatGPT's asks without end.
    #[serde(default = "one")]
    pub attempts: usize,
}

fn one() -> usize {
    1
}

/// A scorer of predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ScorerKind {
    /// A model's score from 1 to 5, given the video's caption; correct from 3 (LLaVA-Hound, arXiv 2404.01258; used for
    /// ISR-DPO, arXiv 2406.11280).
    #[serde(rename = "score_1_5")]
    Score1To5,
    /// A model's yes or no, and its score from 0 to 5 (Video-ChatGPT, arXiv 2306.05424).
    #[serde(rename = "yes_no_0_5")]
    YesNo0To5,
    /// Equality without case, punctuation and articles (SQuAD, arXiv 1606.05250).
    #[serde(rename = "exact")]
    Exact,
    /// The letter of the right option.
    #[serde(rename = "options")]
    Options,
    /// Both questions of a pair are right (VideoHallucer, arXiv 2406.16338).
    #[serde(rename = "yes_no_pairs")]
    YesNoPairs,
}

impl ScorerKind {
    /// Whether it asks a model.
    pub fn asks(self) -> bool {
        matches!(self, Self::Score1To5 | Self::YesNo0To5)
    }
}

impl fmt::Display for ScorerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Score1To5 => "score_1_5",
            Self::YesNo0To5 => "yes_no_0_5",
            Self::Exact => "exact",
            Self::Options => "options",
            Self::YesNoPairs => "yes_no_pairs",
        })
    }
}

/// Published form of the scorer `yes_no_0_5`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Video-ChatGPT's `quantitative_evaluation/evaluate_activitynet_qa.py`: the reply is a Python dictionary; without
    /// `temperature`.
    #[default]
    VideoChatgpt,
    /// LLaVA-Hound's `test/eval/eval_official_qa.py`: `'score': N` and a `yes` or `no` anywhere; `temperature` 0,
    /// `top_p` 1, predictions cut at 256 words.
    LlavaHound,
}

/// Treatment of replies that do not state their score as asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unparsed {
    /// As the published script: of `score_1_5` the commonest number of the reply, or 1 where it has none; of `yes_no_0_5`
    /// nothing.
    #[default]
    Published,
    /// They count for nothing.
    LeaveOut,
}

impl ScorerConfig {
    /// Config of a scorer that asks no model, with default settings.
    pub fn of(scorer: ScorerKind) -> Self {
        Self {
            scorer,
            server: None,
            form: Form::default(),
            prompt: None,
            max_words: None,
            unparsed: Unparsed::default(),
            attempts: 1,
        }
    }

    /// Builds the client of the server; `None` of a scorer that asks no model.
    ///
    /// # Errors
    /// [`QuestionsError::Setting`], a missing API key included.
    pub fn client(&self) -> Result<Option<Arc<ChatClient>>, QuestionsError> {
        let client = self.server.as_ref().map(|server| server.client(ROLE)).transpose();
        Ok(client.map_err(|error| QuestionsError::Setting(error.to_string()))?.map(Arc::new))
    }

    /// Checks all settings.
    ///
    /// # Errors
    /// A message that begins with the first key that is not valid.
    pub fn check(&self) -> Result<(), String> {
        bounds::at_least_one("attempts", self.attempts)?;
        bounds::at_least_one("max_words", self.max_words.unwrap_or(1))?;
        match (&self.server, self.scorer.asks()) {
            (None, true) => {
                return Err(format!(
                    "server is missing; scorer `{}` asks a model: server = {{ base_url = \"...\", model = \"...\" }}",
                    self.scorer
                ));
            }
            (Some(server), true) => server.validate(ROLE).map_err(|reason| format!("server: {reason}"))?,
            (Some(_), false) => {
                return Err(format!("server is set, and scorer `{}` asks no model", self.scorer));
            }
            (None, false) => {}
        }
        match &self.prompt {
            Some(_) if !self.scorer.asks() => {
                Err(format!("prompt is set, and scorer `{}` asks no model", self.scorer))
            }
            Some(prompt) => Prompt::check(prompt).map_err(|reason| format!("prompt {reason}")),
            None => Ok(()),
        }
    }
}

impl Component for ScorerConfig {
    type Built = Arc<dyn Evaluator>;

    fn validate(&self) -> Result<(), String> {
        if self.scorer == ScorerKind::YesNoPairs {
            return Err(
                "scorer `yes_no_pairs` needs both answers of a pair; use it with `isr evaluate`".to_owned()
            );
        }
        if self.scorer == ScorerKind::Options {
            return Err(
                "scorer `options` needs the options of a question; use it with `isr evaluate`".to_owned()
            );
        }
        self.check()
    }

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(QuestionsEvaluator { scorer: Scorer::new(self)? }))
    }
}

isr_config::register!(Evaluator "questions" => ScorerConfig, example = "\
scorer = \"score_1_5\"
server = { base_url = \"https://api.openai.com/v1\", model = \"gpt-3.5-turbo-1106\", api_key_env = \"OPENAI_API_KEY\" }
");
