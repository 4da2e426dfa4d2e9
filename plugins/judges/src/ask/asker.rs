//! Asking a policy until its reply can be read.

use isr_api::{ComponentError, FrozenPolicy, JudgeCase, Streams};

use super::reply::ReplyConfig;
use crate::error::JudgeError;
use crate::prompt;

/// Characters of a reply that an error shows.
const SHOWN: usize = 80;

/// What surrounds a judge's question, and how replies are drawn.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) system: Option<String>,
    pub(crate) video: bool,
    pub(crate) reply: ReplyConfig,
}

/// One question, and the random stream of its replies.
pub(crate) struct Question<'q> {
    pub(crate) text: String,
    /// The judge's name.
    pub(crate) stage: &'static str,
    /// What the question is about. Texts, not places: so a swapped case draws the same replies.
    pub(crate) subject: &'q str,
    /// What a reply has to say, for the error.
    pub(crate) wanted: String,
}

impl Asker {
    /// Asks until `read` makes sense of the reply, and no more than `attempts` times.
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
            match read(response.text.trim()) {
                Some(answer) => return Ok(answer),
                None => last = response.text,
            }
        }
        let attempts = self.reply.attempts;
        Err(ComponentError::bad_input(unreadable(attempts, question.wanted, &last)))
    }
}

/// The error for replies of which none could be read.
pub(crate) fn unreadable(attempts: usize, wanted: String, last: &str) -> JudgeError {
    let mut reply: String = last.trim().chars().take(SHOWN).collect();
    if reply.len() < last.trim().len() {
        reply.push_str("...");
    }
    JudgeError::Unreadable { attempts, wanted, reply }
}
