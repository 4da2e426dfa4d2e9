//! [`Scorer`]: marks predictions, one by one.

use std::sync::Arc;

use isr_api::{ComponentError, Fingerprint, Streams};
use isr_chat::{ChatClient, RequestStyle};
use serde::{Deserialize, Serialize};

use super::config::{Form, ScorerConfig, ScorerKind, Unparsed};
use super::local;
use super::prompt::Prompt;
use super::reading::{Reading, ReplyReader, Said};
use crate::error::QuestionsError;
use crate::rows::Question;

/// Version of the scorers: changes with what they count.
const VERSION: u32 = 1;

/// Words of a prediction that LLaVA-Hound's scorers see.
const LLAVA_HOUND_WORDS: usize = 256;

/// What a scorer reads of one prediction.
#[derive(Clone, Copy, Debug)]
pub struct Case<'c> {
    /// Caption of the video.
    pub caption: Option<&'c str>,
    /// The question.
    pub question: &'c str,
    /// The reference answer.
    pub answer: &'c str,
    /// What the model said.
    pub prediction: &'c str,
    /// Options of a multiple-choice question.
    pub options: &'c [String],
}

/// The mark of one prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Whether it is right; `None` where that counts for nothing.
    pub correct: Option<bool>,
    /// Its score; `None` without one.
    pub score: Option<f64>,
    /// How the scorer's reply, or the prediction, was read.
    pub reading: Reading,
    /// The model's reply; `None` of a scorer that asks none.
    pub reply: Option<String>,
}

impl Mark {
    /// Whether the reply, or the prediction, does not say what it should as asked.
    pub fn is_unparsed(&self) -> bool {
        self.reading != Reading::Stated
    }
}

/// A scorer at run time.
pub struct Scorer {
    config: ScorerConfig,
    asked: Option<Asked>,
}

/// The model of a scorer.
struct Asked {
    client: Arc<ChatClient>,
    style: RequestStyle,
    temperature: Option<f64>,
    prompt: Prompt,
    reader: ReplyReader,
}

impl Scorer {
    /// Builds the scorer; sends nothing yet.
    ///
    /// # Errors
    /// [`QuestionsError::Setting`], a missing API key included.
    pub fn new(config: &ScorerConfig) -> Result<Self, QuestionsError> {
        Self::with_client(config, config.client()?)
    }

    /// Builds the scorer on a client of the config's server, so that several have one budget and one rate limit.
    ///
    /// # Errors
    /// [`QuestionsError::Setting`].
    pub fn with_client(
        config: &ScorerConfig,
        client: Option<Arc<ChatClient>>,
    ) -> Result<Self, QuestionsError> {
        config.check().map_err(QuestionsError::Setting)?;
        let prompt = Prompt::published(config.scorer, config.form, config.prompt.as_deref());
        let asked = match (&config.server, prompt, client) {
            (Some(server), Some(prompt), Some(client)) => {
                let mut style = server.style(prompt.system.clone());
                let published = sends_sampling(config);
                if published && !style.extra.contains_key("top_p") {
                    style.extra.insert("top_p".to_owned(), 1.0.into());
                }
                let temperature = match server.temperature {
                    Some(temperature) => temperature.value(),
                    None => published.then_some(0.0),
                };
                let reader = ReplyReader::of(config.scorer, config.form)?;
                Some(Asked { client, style, temperature, prompt, reader })
            }
            _ => None,
        };
        Ok(Self { config: config.clone(), asked })
    }

    /// Whether it asks a model.
    pub fn asks(&self) -> bool {
        self.asked.is_some()
    }

    /// Number of predictions to mark at once.
    pub fn concurrency(&self) -> usize {
        self.config.server.as_ref().map_or(1, |server| server.concurrency)
    }

    /// Which scorer it is.
    pub fn kind(&self) -> ScorerKind {
        self.config.scorer
    }

    /// Name of the scorer, with that of its model: `score_1_5, gpt-3.5-turbo-0301`.
    pub fn name(&self) -> String {
        let mut name = self.config.scorer.to_string();
        if self.config.scorer == ScorerKind::YesNo0To5 && self.config.form == Form::LlavaHound {
            name.push_str(" (llava-hound)");
        }
        if self.config.prompt.is_some() {
            name.push_str(" with another prompt");
        }
        if let Some(server) = &self.config.server {
            name.push_str(&format!(", {}", server.model));
        }
        name
    }

    /// Digest of what decides its marks: kind, prompts, model, sampling, and the treatment of predictions and replies. The
    /// server's address is no part of it, as one model may be served in several places.
    pub fn fingerprint(&self) -> Fingerprint {
        let asked = self.asked.as_ref().map(|asked| {
            let (style, prompt) = (&asked.style, &asked.prompt);
            (&style.model, &style.system, &style.extra, style.max_tokens, &prompt.text, asked.temperature)
        });
        let config = &self.config;
        let counted = (config.scorer, config.form, self.max_words(), config.unparsed, config.attempts);
        Fingerprint::of_json(&(VERSION, counted, asked))
    }

    /// Checks that a question has what the scorer needs.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(&self, question: &Question) -> Result<(), String> {
        let needs_caption = self.asked.as_ref().is_some_and(|asked| asked.prompt.needs_caption());
        let kind = self.config.scorer;
        match kind {
            _ if needs_caption && question.caption.is_none() => {
                Err(format!("`caption` is missing, which scorer `{kind}` shows its model"))
            }
            ScorerKind::Options if question.options.is_empty() => {
                Err(format!("`options` is missing, of which scorer `{kind}` reads the letter"))
            }
            ScorerKind::Options if local::reference(&question.options, &question.answer).is_none() => {
                Err(format!("its answer `{}` is none of its options", question.answer))
            }
            ScorerKind::YesNoPairs if question.pair.is_none() => {
                Err(format!("`basic` and `hallucination` are missing, the pair that scorer `{kind}` needs"))
            }
            _ => Ok(()),
        }
    }

    /// Marks one prediction.
    ///
    /// # Errors
    /// [`ComponentError::BadInput`] for a case without what the prompt shows, and for one that the server rejects; errors
    /// of the server that are not the case's as [`ComponentError::Failed`].
    pub async fn mark(&self, case: &Case<'_>) -> Result<Mark, ComponentError> {
        let (said, reply) = match &self.asked {
            Some(asked) => {
                let (said, reply) = self.ask(asked, case).await?;
                (said, Some(reply))
            }
            None => (self.apply(case), None),
        };
        let counts = said.reading == Reading::Stated
            || reply.is_none()
            || self.config.unparsed == Unparsed::Published;
        let (correct, score) = if counts { (said.correct, said.score) } else { (None, None) };
        Ok(Mark { correct, score, reading: said.reading, reply })
    }

    async fn ask(&self, asked: &Asked, case: &Case<'_>) -> Result<(Said, String), ComponentError> {
        let text = asked.prompt.fill(case, &self.cut(case.prediction));
        let text = text.map_err(|reason| {
            ComponentError::bad_input(format!(
                "the scorer's prompt {reason}; a sample's caption is its `facts`: map the column with `data.columns.facts`"
            ))
        })?;
        let mut last = None;
        for attempt in 0..self.config.attempts {
            // A number for each attempt, by which the cache tells them apart.
            let draw = Streams::new(0).seed(attempt as u32, "scorer", "");
            let body = asked.style.body(&text, &[], asked.temperature, draw);
            let reply = asked.client.complete(body, draw).await?.text;
            let said = asked.reader.read(&reply);
            if said.reading == Reading::Stated {
                return Ok((said, reply));
            }
            last = Some((said, reply));
        }
        last.ok_or_else(|| ComponentError::failed("attempts is 0"))
    }

    fn apply(&self, case: &Case<'_>) -> Said {
        let prediction = self.cut(case.prediction);
        match self.config.scorer {
            ScorerKind::Options => local::options(case.options, case.answer, &prediction),
            ScorerKind::YesNoPairs => local::yes_no(case.answer, &prediction),
            _ => local::exact(case.answer, &prediction),
        }
    }

    fn max_words(&self) -> Option<usize> {
        self.config.max_words.or_else(|| sends_sampling(&self.config).then_some(LLAVA_HOUND_WORDS))
    }

    /// A prediction without the words after the last that counts; white space within a cut one is single spaces, as in
    /// the published `maybe_truncate`.
    fn cut(&self, prediction: &str) -> String {
        let Some(most) = self.max_words() else { return prediction.to_owned() };
        let mut words = prediction.split_whitespace();
        let kept: Vec<&str> = words.by_ref().take(most).collect();
        if words.next().is_none() { prediction.to_owned() } else { kept.join(" ") }
    }
}

/// Whether the published script is LLaVA-Hound's, which sends `temperature` 0 and `top_p` 1 and cuts predictions.
fn sends_sampling(config: &ScorerConfig) -> bool {
    match config.scorer {
        ScorerKind::Score1To5 => true,
        ScorerKind::YesNo0To5 => config.form == Form::LlavaHound,
        _ => false,
    }
}
