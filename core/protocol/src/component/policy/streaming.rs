//! Progress of a generation: passed on as it comes, and held against the answers at the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use isr_api::{Progress, ProgressSender, Response};

use crate::message::Told;
use crate::session::OnProgress;

/// Progress of one `generate`.
pub(super) struct Streaming(Arc<Shared>);

struct Shared {
    progress: ProgressSender,
    told: Mutex<Pieces>,
}

#[derive(Default)]
struct Pieces {
    /// What was told of each answer's reasoning and text.
    texts: Vec<[String; 2]>,
    has_prompt: bool,
    /// Messages that may still come: one a token, and one of the prompt.
    left: usize,
    /// The first that is none of an answer.
    wrong: Option<String>,
}

impl Streaming {
    /// Progress of `n` answers of at most `tokens` tokens.
    pub(super) fn new(progress: ProgressSender, n: usize, tokens: usize) -> Self {
        let left = n.saturating_mul(tokens).saturating_add(1);
        let told = Pieces { texts: vec![<[String; 2]>::default(); n], left, ..Pieces::default() };
        Self(Arc::new(Shared { progress, told: Mutex::new(told) }))
    }

    /// What takes the process's messages.
    pub(super) fn receiver(&self) -> OnProgress {
        let shared = Arc::clone(&self.0);
        Box::new(move |told| shared.receive(told))
    }

    /// Tells the prompt's length, unless that was told before.
    ///
    /// # Errors
    /// What was told is no beginning of an answer.
    pub(super) fn end(self, prompt_tokens: Option<usize>, responses: &[Response]) -> Result<(), String> {
        let told = self.0.lock();
        if let Some(tokens) = prompt_tokens.filter(|_| !told.has_prompt) {
            let _ = self.0.progress.send(Progress::Prompt { tokens });
        }
        if let Some(wrong) = &told.wrong {
            return Err(wrong.clone());
        }
        let both = told.texts.iter().zip(responses).enumerate();
        let mut parts = both.flat_map(|(answer, ([reasoning, text], response))| {
            let reasoned = response.reasoning.as_ref().map_or("", |it| it.text.as_str());
            [(answer, reasoning, reasoned), (answer, text, response.text.as_str())]
        });
        match parts.find(|(_, told, whole)| !whole.starts_with(told.as_str())) {
            Some((answer, told, _)) => {
                let told: String = told.chars().take(80).collect();
                Err(format!("the progress of answer {answer}, {told:?}, is no beginning of its text"))
            }
            None => Ok(()),
        }
    }
}

impl Pieces {
    /// Adds a piece to a part of an answer; false for none that is passed on.
    fn add(&mut self, answer: usize, part: usize, piece: &str) -> bool {
        let count = self.texts.len();
        match self.texts.get_mut(answer) {
            Some(known) => known[part].push_str(piece),
            None => {
                self.wrong.get_or_insert_with(|| format!("it told progress of answer {answer} of {count}"));
                return false;
            }
        }
        !piece.is_empty()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self, message: Told) {
        let mut told = self.lock();
        let progress = match message {
            _ if told.left == 0 => {
                told.wrong
                    .get_or_insert_with(|| "it told progress more often than once a token".to_owned());
                return;
            }
            Told::Prompt { prompt_tokens } => {
                told.has_prompt = true;
                Progress::Prompt { tokens: prompt_tokens }
            }
            Told::Reasoning { answer, reasoning } => match told.add(answer, 0, &reasoning) {
                true => Progress::Reasoning { answer, text: reasoning },
                false => return,
            },
            Told::Text { answer, text } => match told.add(answer, 1, &text) {
                true => Progress::Text { answer, text },
                false => return,
            },
        };
        told.left -= 1;
        // The receiver may be gone.
        let _ = self.progress.send(progress);
    }
}
