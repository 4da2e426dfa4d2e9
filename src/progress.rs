//! Progress on stderr: bars on a terminal, plain lines in a pipe.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use isr_api::records::{EvaluationRecord, IterationSummary};
use isr_api::{Event, Observer, Stage};
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::printable;

/// Time between two lines about one stage, where there are no bars.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Reasons of quarantine that are shown for a stage; the rest are in the journal.
const REASONS_SHOWN: usize = 3;

/// Shows how a run goes. Clones show the same.
#[derive(Clone)]
pub(crate) struct Progress {
    quiet: bool,
    terminal: bool,
    bars: MultiProgress,
    current: Arc<Mutex<Current>>,
    /// Rank of this process in a group.
    rank: Arc<OnceLock<usize>>,
}

/// The stage under way.
#[derive(Default)]
struct Current {
    title: String,
    bar: Option<ProgressBar>,
    done: u64,
    total: u64,
    quarantined: usize,
    loss: Option<f64>,
    last_line: Option<Instant>,
}

impl Progress {
    /// `quiet` shows nothing at all.
    pub(crate) fn new(quiet: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { quiet, terminal, bars: MultiProgress::new(), current: Arc::default(), rank: Arc::default() }
    }

    /// Says that this process is one of a group: log lines get its rank, and only the first process shows progress.
    pub(crate) fn belongs_to(&self, rank: usize) {
        let _ = self.rank.set(rank);
    }

    fn is_quiet(&self) -> bool {
        self.quiet || self.rank.get().is_some_and(|rank| *rank > 0)
    }

    /// A line above the bars.
    pub(crate) fn line(&self, text: impl Display) {
        if !self.is_quiet() {
            // A closed pipe is no reason to stop a run.
            let text = text.to_string();
            self.bars.suspend(|| drop(writeln!(io::stderr(), "{}", printable(&text))));
        }
    }

    /// Takes the bar away, as before an error is printed.
    pub(crate) fn clear(&self) {
        if let Some(bar) = self.lock().bar.take() {
            bar.finish_and_clear();
        }
    }

    /// Begins work of its own, which is no stage of a run.
    pub(crate) fn stage(&self, title: String) -> Work<'_> {
        self.start(title, 0, 0);
        Work { progress: self, started: Instant::now() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, title: String, done: usize, total: usize) {
        let (done, total) = (done as u64, total as u64);
        let bar = (self.terminal && !self.is_quiet()).then(|| {
            let bar = self.bars.add(ProgressBar::new(total).with_position(done));
            bar.set_style(style());
            bar.set_prefix(title.clone());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar.reset_eta();
            bar
        });
        let last_line = Some(Instant::now());
        *self.lock() = Current { title, bar, done, total, last_line, ..Current::default() };
    }

    fn advance(&self, position: impl FnOnce(u64) -> u64, loss: Option<f64>) {
        let mut current = self.lock();
        current.done = position(current.done);
        current.loss = loss.or(current.loss);
        let note = current.loss.map(|loss| format!("loss {loss:.4}")).unwrap_or_default();
        if let Some(bar) = &current.bar {
            bar.set_position(current.done);
            bar.set_message(note);
        } else if current.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            current.last_line = Some(Instant::now());
            self.line(format_args!("{}: {}/{} {note}", current.title, current.done, current.total));
        }
    }

    fn quarantined(&self, subject: &str, reason: &str) {
        let mut current = self.lock();
        current.quarantined += 1;
        current.done += 1;
        if let Some(bar) = &current.bar {
            bar.set_position(current.done);
        }
        match current.quarantined {
            shown if shown <= REASONS_SHOWN => self.line(format_args!("quarantined {subject}: {reason}")),
            next if next == REASONS_SHOWN + 1 => {
                self.line("more are quarantined; quarantine.jsonl has the reasons");
            }
            _ => {}
        }
    }

    fn finish(&self, seconds: f64) {
        self.clear();
        let current = self.lock();
        let loss = current.loss.map(|loss| format!(", loss {loss:.4}")).unwrap_or_default();
        let bad = match current.quarantined {
            0 => String::new(),
            count => format!(", {count} quarantined"),
        };
        let (title, done, total) = (&current.title, current.done, current.total);
        self.line(format_args!("{title}: {done}/{total} in {}{loss}{bad}", time(seconds)));
    }
}

/// Work that is under way.
pub(crate) struct Work<'p> {
    progress: &'p Progress,
    started: Instant,
}

impl Work<'_> {
    /// Shows how many items are done.
    pub(crate) fn at(&self, done: usize, total: usize) {
        {
            let mut current = self.progress.lock();
            current.total = total as u64;
            if let Some(bar) = &current.bar {
                bar.set_length(total as u64);
            }
        }
        self.progress.advance(|_| done as u64, None);
    }

    /// Shows that all is done.
    pub(crate) fn finish(self) {
        self.progress.finish(self.started.elapsed().as_secs_f64());
    }
}

impl Observer for Progress {
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::RunStarted { run, iteration, iterations, .. } if iteration > iterations => {
                self.line(format_args!("run `{run}`: all {iterations} iterations are complete"));
            }
            Event::RunStarted { run, iteration, iterations, .. } => {
                self.line(format_args!("run `{run}`: iteration {iteration} of {iterations}"));
            }
            Event::StageStarted { iteration, stage, done, total } => {
                self.start(title(*iteration, *stage), *done, *total);
            }
            Event::ItemDone { .. } => self.advance(|done| done + 1, None),
            Event::TrainStep { step, report, .. } => self.advance(|_| step + 1, Some(report.loss)),
            Event::Quarantined { subject, reason, .. } => self.quarantined(subject, reason),
            Event::StageShared { iteration, stage, seconds } => {
                let (title, time) = (title(*iteration, *stage), time(*seconds));
                self.line(format_args!("{title}: taken over from an equal run, where it took {time}"));
            }
            Event::StageFinished { seconds, .. } => self.finish(*seconds),
            Event::BaseEvaluated { evaluation } => {
                self.line(format_args!("starting model: {}", figures(evaluation)));
            }
            Event::IterationFinished { summary } => {
                self.line(format_args!("{}", finished(summary)));
            }
            Event::RunFinished => self.clear(),
            _ => {}
        }
    }
}

fn title(iteration: u32, stage: Stage) -> String {
    match (iteration, stage) {
        (0, Stage::Train) => "train".to_owned(),
        (0, stage) => format!("starting model, {}", stage.name()),
        (t, stage) => format!("iteration {t}, {}", stage.name()),
    }
}

/// `iteration 2: 5 pairs, accuracy 0.612`; the figures are absent without an evaluation.
fn finished(summary: &IterationSummary) -> String {
    let (t, pairs) = (summary.iteration, summary.pairs.kept);
    let figures = summary.evaluation.as_ref().map(figures).filter(|figures| !figures.is_empty());
    let figures = figures.map_or_else(String::new, |figures| format!(", {figures}"));
    format!("iteration {t}: {pairs} pair{}{figures}", if pairs == 1 { "" } else { "s" })
}

fn figures(evaluation: &EvaluationRecord) -> String {
    let named = evaluation.greedy.iter().map(|(name, value)| format!("{name} {value:.3}"));
    named.collect::<Vec<_>>().join(", ")
}

fn time(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if seconds >= 60.0 => HumanDuration(duration).to_string(),
        _ => format!("{seconds:.1} s"),
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix} [{bar:30}] {pos}/{len} {elapsed}, {eta} left  {msg}";
    let style = ProgressStyle::with_template(template);
    style.map_or_else(|_| ProgressStyle::default_bar(), |style| style.progress_chars("=> "))
}

/// Log lines go above the bars.
impl<'a> MakeWriter<'a> for Progress {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter(self.bars.clone(), self.rank.get().copied())
    }
}

/// Writes whole log lines to stderr. Where they cannot be written, they are lost: an error here would make the logger
/// print it to the same place, and panic.
pub(crate) struct LogWriter(MultiProgress, Option<usize>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = self.1.map_or_else(|| text.to_string(), |rank| format!("[rank {rank}] {text}"));
        self.0.suspend(|| drop(io::stderr().write_all(printable(&text).as_bytes())));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = io::stderr().flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use isr_api::Fingerprint;

    use super::*;

    #[test]
    fn an_iteration_without_figures_ends_with_its_pairs() {
        let mut summary = IterationSummary {
            iteration: 2,
            samples: 8,
            quarantined: Default::default(),
            policy: Fingerprint::of("p"),
            response_tokens: 3.0,
            reasoning: None,
            contexts: Default::default(),
            judge: Default::default(),
            pairs: Default::default(),
            training: Default::default(),
            evaluation: None,
        };
        summary.pairs.kept = 1;
        assert_eq!(finished(&summary), "iteration 2: 1 pair");
        summary.pairs.kept = 5;
        assert_eq!(finished(&summary), "iteration 2: 5 pairs");
    }
}
