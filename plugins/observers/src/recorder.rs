//! Dispatch of events to a metric store.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use isr_api::{Event, Observer};

use crate::scalars::Scalars;

/// A metric store.
pub(crate) trait Sink: Send {
    /// Logs scalars. The first write to a series in a session removes what an earlier session logged for this
    /// step and later ones, as an interrupted run repeats them.
    fn write(&mut self, scalars: &Scalars) -> io::Result<()>;

    /// Marks the run as complete.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens the store for a run's name and directory.
pub(crate) type Open = dyn Fn(&str, &Path) -> io::Result<Box<dyn Sink>> + Send + Sync;

/// Observer that logs to a sink until its first I/O error.
pub(crate) struct Recorder {
    name: &'static str,
    open: Box<Open>,
    sink: Mutex<Option<Box<dyn Sink>>>,
}

impl Recorder {
    pub(crate) fn new(name: &'static str, open: Box<Open>) -> Self {
        Self { name, open, sink: Mutex::new(None) }
    }

    fn record(&self, sink: &mut Option<Box<dyn Sink>>, event: &Event<'_>) -> io::Result<()> {
        match (event, sink.as_mut()) {
            (Event::RunStarted { run, dir, .. }, _) => *sink = Some((self.open)(run, dir)?),
            (Event::RunFinished, Some(sink)) => sink.finish()?,
            (_, Some(sink)) => {
                if let Some(scalars) = Scalars::of(event) {
                    sink.write(&scalars)?;
                }
            }
            (_, None) => {}
        }
        Ok(())
    }
}

impl Observer for Recorder {
    fn observe(&self, event: &Event<'_>) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.record(&mut sink, event) {
            // Without a sink, later events are ignored, and the warning is logged once.
            *sink = None;
            tracing::warn!("observer `{}` records no more of this run: {error}", self.name);
        }
    }
}

/// Adds a path to an I/O error.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
