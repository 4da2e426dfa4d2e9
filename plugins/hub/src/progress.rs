//! What is seen of a download.

use std::io::IsTerminal;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// A line on stderr that moves where it is a terminal, and one line a file elsewhere.
pub(crate) struct Line {
    bar: ProgressBar,
    plain: bool,
    title: String,
    started: bool,
}

impl Line {
    /// The line of a file; a silent one where nothing is to be shown.
    pub(crate) fn new(shown: bool, title: String) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if shown && terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        Self { bar, plain: shown && !terminal, title, started: false }
    }
}

impl hf_hub::api::Progress for Line {
    fn init(&mut self, size: usize, _: &str) {
        self.bar.set_length(size as u64);
        self.bar.set_position(0);
        // Called once more when the first bytes come.
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        if let Ok(style) = ProgressStyle::with_template("{msg} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        {
            self.bar.set_style(style);
        }
        self.bar.set_message(self.title.clone());
        if self.plain {
            eprintln!("downloading {} ({})", self.title, HumanBytes(size as u64));
        }
    }

    fn update(&mut self, size: usize) {
        self.bar.inc(size as u64);
    }

    fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}
