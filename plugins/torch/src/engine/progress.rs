//! Telling of answers while they are written.

use isr_api::{Progress, ProgressSender};

/// Says how long a prompt is.
pub(super) fn tell_prompt(progress: Option<&ProgressSender>, tokens: usize) {
    if let Some(progress) = progress {
        // Whoever asked may have lost interest.
        let _ = progress.send(Progress::Prompt { tokens });
    }
}

/// Tells of one answer.
pub(super) struct Teller {
    progress: ProgressSender,
    answer: usize,
    told: String,
}

impl Teller {
    pub(super) fn new(progress: &ProgressSender, answer: usize) -> Self {
        Self { progress: progress.clone(), answer, told: String::new() }
    }

    pub(super) fn has_listener(&self) -> bool {
        !self.progress.is_closed()
    }

    /// Tells what is new. A text that does not begin with what was told is left to the final answer.
    pub(super) fn tell(&mut self, text: &str) {
        let Some(new) = text.strip_prefix(self.told.as_str()).filter(|new| !new.is_empty()) else {
            return;
        };
        let _ = self.progress.send(Progress::Text { answer: self.answer, text: new.to_owned() });
        self.told.push_str(new);
    }
}

/// What is sure to begin the answer that a text is on its way to: without half a letter at its end, what may
/// become a stop string, and white space, which an answer does not end with.
pub(super) fn settled<'t>(text: &'t str, stops: &[String]) -> &'t str {
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let held = stops.iter().map(|stop| begun(text, stop)).max().unwrap_or(0);
    text[..text.len() - held].trim_end()
}

/// Bytes of a stop string that a text ends with.
fn begun(text: &str, stop: &str) -> usize {
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
        assert_eq!(settled("a bar", &stops), "a bar");
        assert_eq!(settled("a bar </en", &stops), "a bar");
        assert_eq!(settled("a < b", &stops), "a < b");
        assert_eq!(settled("a bar\nUS", &stops), "a bar");
        assert_eq!(settled("caf\u{FFFD}", &stops), "caf");
        assert_eq!(settled("é\n", &[]), "é");
        assert_eq!(settled("aé", &["éa".to_owned()]), "a");
    }

    #[test]
    fn pieces_put_together_are_the_text() {
        let (sender, mut receiver) = unbounded_channel();
        let mut teller = Teller::new(&sender, 3);
        for text in ["", "a", "a", "a bar", "another", "a bar moves"] {
            teller.tell(text);
        }
        let mut told = String::new();
        while let Ok(Progress::Text { answer, text }) = receiver.try_recv() {
            assert_eq!(answer, 3);
            told.push_str(&text);
        }
        assert_eq!(told, "a bar moves");
    }
}
