//! Progress of answers under way.

use isr_api::{Progress, ProgressSender};

/// Emits the length of a prompt in tokens, visual features included.
pub(super) fn emit_prompt(progress: Option<&ProgressSender>, tokens: usize) {
    if let Some(progress) = progress {
        // The receiver may be gone.
        let _ = progress.send(Progress::Prompt { tokens });
    }
}

/// Emitter of the text of one answer, piece by piece.
pub(super) struct ProgressEmitter {
    progress: ProgressSender,
    answer: usize,
    /// Text emitted so far.
    emitted: String,
}

impl ProgressEmitter {
    /// Creates the emitter of answer `answer`.
    pub(super) fn new(progress: &ProgressSender, answer: usize) -> Self {
        Self { progress: progress.clone(), answer, emitted: String::new() }
    }

    /// Returns whether the receiver is alive.
    pub(super) fn has_listener(&self) -> bool {
        !self.progress.is_closed()
    }

    /// Emits the part of the partial text `text` behind what was emitted.
    pub(super) fn emit(&mut self, text: &str) {
        // The text so far is compared at its end only: partial texts extend each other.
        let (emitted, end) = (self.emitted.len(), self.emitted.len().saturating_sub(64));
        if text.get(..emitted).is_some_and(|same| same.as_bytes()[end..] == self.emitted.as_bytes()[end..])
        {
            self.send(emitted, text);
        }
    }

    /// Emits the rest of the final text. A text that does not extend what was emitted is left to the response.
    pub(super) fn finish(&mut self, text: &str) {
        if text.starts_with(self.emitted.as_str()) {
            self.send(self.emitted.len(), text);
        }
    }

    fn send(&mut self, from: usize, text: &str) {
        let new = &text[from..];
        if !new.is_empty() {
            let _ = self.progress.send(Progress::Text { answer: self.answer, text: new.to_owned() });
            self.emitted.push_str(new);
        }
    }
}

/// Returns the longest prefix of a partial answer that its final text is certain to begin with: without an
/// incomplete character, the possible start of a stop string, and trailing white space.
pub(super) fn stable_prefix<'t>(text: &'t str, stops: &[String]) -> &'t str {
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let held = stops.iter().map(|stop| partial_stop(text, stop)).max().unwrap_or(0);
    text[..text.len() - held].trim_end()
}

/// Returns the length in bytes of the longest proper prefix of `stop` that `text` ends with.
fn partial_stop(text: &str, stop: &str) -> usize {
    let starts = stop.char_indices().map(|(end, _)| end).rev();
    starts.into_iter().find(|&end| text.ends_with(&stop[..end])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use isr_api::Progress;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

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
            emitter.emit(text);
        }
        emitter.finish("a bar moves");
        emitter.finish("b");
        let mut told = String::new();
        while let Ok(Progress::Text { answer, text }) = receiver.try_recv() {
            assert_eq!(answer, 3);
            told.push_str(&text);
        }
        assert_eq!(told, "a bar moves");
    }
}
