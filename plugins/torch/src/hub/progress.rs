//! Download progress on stderr.

use std::io::IsTerminal;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Progress of one file: a bar if stderr is a terminal, otherwise one line a file.
pub(super) struct DownloadProgress {
    bar: ProgressBar,
    plain: bool,
    title: String,
}

impl DownloadProgress {
    /// Creates the progress of a file; silent if `shown` is false.
    pub(super) fn new(shown: bool, title: String) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if shown && terminal { ProgressBar::new(0) } else { ProgressBar::hidden() };
        Self { bar, plain: shown && !terminal, title }
    }

    /// Begins at a place of a file of `size` bytes.
    pub(super) fn begin(&mut self, size: Option<u64>, at: u64) {
        if let Some(size) = size {
            self.bar.set_length(size);
        }
        self.bar.set_position(at);
        if let Ok(style) = ProgressStyle::with_template("{msg} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        {
            self.bar.set_style(style);
        }
        self.bar.set_message(self.title.clone());
        if self.plain {
            let size =
                size.map_or_else(|| "of unknown size".to_owned(), |size| HumanBytes(size).to_string());
            eprintln!("downloading {} ({size})", self.title);
        }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.bar.inc(bytes);
    }
}

impl Drop for DownloadProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
