//! Sampling of replies until one can be parsed.

use isr_api::{ComponentError, FinishReason, FrozenPolicy, JudgeCase, Streams, without_reasoning};

use super::reply::ReplyConfig;
use crate::error::JudgeError;
use crate::prompt;

/// Maximum length of a reply in an error message, in characters.
const SHOWN: usize = 80;

/// Prompt settings and reply sampling of a judge.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) system: Option<String>,
    pub(crate) video: bool,
    pub(crate) reply: ReplyConfig,
}

/// One question, with the name of the random stream of its replies.
pub(crate) struct Question<'q> {
    pub(crate) text: String,
    /// Stage of the random stream: the judge's name.
    pub(crate) stage: &'static str,
    /// Subject of the random stream. An answer's text rather than its position, so that a swapped case draws
    /// the same replies.
    pub(crate) subject: &'q str,
    /// Expected content of a reply, for the error message.
    pub(crate) wanted: String,
}

impl Asker {
    /// Samples replies until `read` parses one, at most `attempts` times.
    ///
    /// # Errors
    /// [`ComponentError::BadInput`] if no reply can be parsed, and the policy's own errors.
    pub(crate) async fn ask<T>(
        &self,
        case: &JudgeCase,
        policy: &FrozenPolicy,
        question: Question<'_>,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ComponentError> {
        let streams = Streams::new(case.seed);
        let mut last = String::new();
        for attempt in 0..self.reply.attempts {
            let seed = streams.seed(attempt as u32, question.stage, question.subject);
            let video = self.video.then_some(&case.scene);
            let prompt = prompt::assemble(video, self.system.as_deref(), question.text.clone());
            let response = policy.answer(prompt, self.reply.sampling_of(attempt), seed).await?;
            let said = without_reasoning(&response.text).filter(|_| !response.is_unanswered());
            if said.is_none() && response.finish_reason == FinishReason::Length {
                // Other draws would reason as long.
                let limit = format!("max_new_tokens = {}", self.reply.sampling.max_new_tokens);
                return Err(ComponentError::bad_input(JudgeError::Cut { limit }));
            }
            match said.and_then(|said| read(said.trim())) {
                Some(answer) => return Ok(answer),
                None => last = response.text,
            }
        }
        let attempts = self.reply.attempts;
        Err(ComponentError::bad_input(unreadable(attempts, question.wanted, &last)))
    }
}

/// Error for a case of which no reply could be parsed.
pub(crate) fn unreadable(attempts: usize, wanted: String, last: &str) -> JudgeError {
    let mut reply: String = last.trim().chars().take(SHOWN).collect();
    if reply.len() < last.trim().len() {
        reply.push_str("...");
    }
    JudgeError::Unreadable { attempts, wanted, reply }
}
