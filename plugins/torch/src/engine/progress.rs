//! Progress of answers under way.

use isr_api::{Progress, ProgressSender, ReasoningFormat, Response, partial_end};

/// Emits the length of a prompt in tokens, visual features included.
pub(super) fn emit_prompt(progress: Option<&ProgressSender>, tokens: usize) {
    if let Some(progress) = progress {
        // The receiver may be gone.
        let _ = progress.send(Progress::Prompt { tokens });
    }
}

/// Emitter of reasoning and text of one answer, piece by piece.
pub(super) struct ProgressEmitter {
    progress: ProgressSender,
    answer: usize,
    /// Reasoning and text emitted so far.
    emitted: [String; 2],
}

impl ProgressEmitter {
    /// Creates the emitter of answer `answer`.
    pub(super) fn new(progress: &ProgressSender, answer: usize) -> Self {
        Self { progress: progress.clone(), answer, emitted: <[String; 2]>::default() }
    }

    /// Returns whether the receiver is alive.
    pub(super) fn has_listener(&self) -> bool {
        !self.progress.is_closed()
    }

    /// Emits the parts of the partial text `text` behind what was emitted.
    pub(super) fn emit(&mut self, text: &str, format: Option<&ReasoningFormat>) {
        let parts = format.map_or(["", text], |format| format.split_partial(text));
        for (part, text) in parts.into_iter().enumerate() {
            let emitted = self.emitted[part].as_bytes();
            // The text so far is compared at its end only: partial texts extend each other.
            let (length, end) = (emitted.len(), emitted.len().saturating_sub(64));
            if text.get(..length).is_some_and(|same| same.as_bytes()[end..] == emitted[end..]) {
                self.send(part, length, text);
            }
        }
    }

    /// Emits the rest of the final texts. A text that does not extend what was emitted is left to the response.
    pub(super) fn finish(&mut self, response: &Response) {
        let reasoning = response.reasoning.as_ref().map_or("", |reasoning| reasoning.text.as_str());
        for (part, text) in [reasoning, response.text.as_str()].into_iter().enumerate() {
            if text.starts_with(self.emitted[part].as_str()) {
                self.send(part, self.emitted[part].len(), text);
            }
        }
    }

    fn send(&mut self, part: usize, from: usize, text: &str) {
        let (new, answer) = (&text[from..], self.answer);
        if !new.is_empty() {
            let text = new.to_owned();
            let _ = self.progress.send(match part {
                0 => Progress::Reasoning { answer, text },
                _ => Progress::Text { answer, text },
            });
            self.emitted[part].push_str(new);
        }
    }
}

/// Returns the longest prefix of a partial answer that its final text is certain to begin with: without an
/// incomplete character, the possible start of a stop string, and trailing white space.
pub(super) fn stable_prefix<'t>(text: &'t str, stops: &[String]) -> &'t str {
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let held = stops.iter().map(|stop| partial_end(text, stop)).max().unwrap_or(0);
    text[..text.len() - held].trim_end()
}

#[cfg(test)]
mod tests {
    use isr_api::{Fingerprint, FinishReason, Progress};
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn response(text: &str) -> Response {
        Response {
            text: text.to_owned(),
            token_ids: vec![1],
            logprobs: vec![-1.0],
            finish_reason: FinishReason::Stop,
            policy: Fingerprint::of("p"),
            reasoning: None,
        }
    }

    #[test]
    fn what_may_still_change_is_held_back() {
        let stops = ["</end>".to_owned(), "\nUSER".to_owned()];
        assert_eq!(stable_prefix("a bar", &stops), "a bar");
        assert_eq!(stable_prefix("a bar </en", &stops), "a bar");
        assert_eq!(stable_prefix("a < b", &stops), "a < b");
        assert_eq!(stable_prefix("a bar\nUS", &stops), "a bar");
        assert_eq!(stable_prefix("caf\u{FFFD}", &stops), "caf");
        assert_eq!(stable_prefix("é\n", &[]), "é");
        assert_eq!(stable_prefix("aé", &["éa".to_owned()]), "a");
    }

    #[test]
    fn pieces_put_together_are_the_text() {
        let (sender, mut receiver) = unbounded_channel();
        let mut emitter = ProgressEmitter::new(&sender, 3);
        for text in ["", "a", "a", "a bar", "another"] {
            emitter.emit(text, None);
        }
        emitter.finish(&response("a bar moves"));
        emitter.finish(&response("b"));
        let mut told = String::new();
        while let Ok(Progress::Text { answer, text }) = receiver.try_recv() {
            assert_eq!(answer, 3);
            told.push_str(&text);
        }
        assert_eq!(told, "a bar moves");
    }

    #[test]
    fn reasoning_is_told_apart_from_the_answer() {
        let (sender, mut receiver) = unbounded_channel();
        let (mut emitter, format) = (ProgressEmitter::new(&sender, 0), ReasoningFormat::default());
        let whole = "<think>\nhm, a bar\n</think>\n\nIt falls.";
        for end in 1..=whole.len() {
            emitter.emit(whole[..end].trim(), Some(&format));
        }
        let (mut said, count) = (response(whole), |count: usize| Ok::<_, ()>(whole[..count].to_owned()));
        said.token_ids = vec![0; whole.len()];
        emitter.finish(&format.separate(said, count).unwrap());
        let mut told = <[String; 2]>::default();
        while let Ok(progress) = receiver.try_recv() {
            match progress {
                Progress::Reasoning { text, .. } => told[0] += &text,
                Progress::Text { text, .. } => told[1] += &text,
                _ => panic!(),
            }
        }
        assert_eq!(told, ["hm, a bar", "It falls."]);
    }
}
