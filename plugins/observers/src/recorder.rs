//! From events to what holds figures.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use isr_api::{Event, Observer};

use crate::scalars::Scalars;

/// What holds figures.
pub(crate) trait Sink: Send {
    /// Adds figures. Where these are the first of their series in this session, whatever an earlier
    /// session recorded of this step and later ones is taken back: a run that was cut does it again.
    fn write(&mut self, scalars: &Scalars) -> io::Result<()>;

    /// The run is complete.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a sink for a run: its name, and its directory.
pub(crate) type Open = dyn Fn(&str, &Path) -> io::Result<Box<dyn Sink>> + Send + Sync;

/// An observer that records to a sink until that fails.
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
            // Without a sink there is nothing more to fail, and nothing more to say.
            *sink = None;
            tracing::warn!("observer `{}` records no more of this run: {error}", self.name);
        }
    }
}

/// The system's error, with the path.
pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
