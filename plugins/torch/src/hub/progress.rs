//! Download progress on stderr.

use std::io::IsTerminal;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Progress of one file: a bar if stderr is a terminal, otherwise one line a file.
pub(super) struct DownloadProgress {
    bar: ProgressBar,
    plain: bool,
    title: String,
    started: bool,
}

impl DownloadProgress {
    /// Creates the progress of a file; silent if `shown` is false.
    pub(super) fn new(shown: bool, title: String) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if shown && terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        Self { bar, plain: shown && !terminal, title, started: false }
    }
}

impl hf_hub::api::Progress for DownloadProgress {
    fn init(&mut self, size: usize, _: &str) {
        self.bar.set_length(size as u64);
        self.bar.set_position(0);
        // hf-hub calls `init` again at the first bytes.
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
