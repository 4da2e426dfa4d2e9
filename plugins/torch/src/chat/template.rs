//! Compiled chat template.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::{AutoEscape, Environment, Error, ErrorKind, context};
use serde_json::Value;

use super::bounds::{self, WHITESPACE};
use super::clock::Clock;
use super::functions::{self, Refusal};
use super::meter::{Meter, OutOfBounds};
use super::source::TemplateSource;
use crate::error::{Result, TorchError};

/// Stack of the thread that parses and renders: the engine recurses over a template's nesting.
const STACK_BYTES: usize = 512 << 20;

/// Most instructions of a rendering.
const MAX_FUEL: u64 = 500_000;

/// Bytes that a template's own text may add up to in values, which the engine's instructions write unweighed.
const MAX_LITERALS: u64 = 1 << 30;

/// Longest rendered text in bytes.
const MAX_OUTPUT: usize = 64 << 20;

/// Longest part of an error message that a template wrote.
const MAX_MESSAGE: usize = 1000;

/// Template of a checkpoint, compiled once.
pub(super) struct Template {
    environment: Environment<'static>,
    meter: Arc<Meter>,
    /// Place that the template was found in, which errors name, and its path.
    place: String,
    path: PathBuf,
    /// Whether the template asks for the date.
    pub(super) asks_for_date: bool,
    /// Held while rendering, since renderings share the meter.
    rendering: Mutex<()>,
    bos: String,
    eos: String,
}

impl Template {
    /// Compiles a template; `clock` gives the date if it asks for it.
    ///
    /// # Errors
    /// Invalid Jinja, or a template beyond the bounds of [`bounds`].
    pub(super) fn new(
        folder: &Path,
        source: &TemplateSource,
        [bos, eos]: [String; 2],
        clock: impl FnOnce() -> Result<Clock, String>,
    ) -> Result<Self> {
        let place = source.place.clone();
        let failed = |why: String| TorchError::Template(format!("{place}: {}", shortened(&why)));
        let prepared = bounds::prepare(&source.text).map_err(failed)?;
        let clock = prepared.asks_for_date.then(clock).transpose().map_err(failed)?;
        let meter = Arc::new(Meter::new());
        let mut environment = Environment::new();
        environment.set_trim_blocks(WHITESPACE.trim_blocks);
        environment.set_lstrip_blocks(WHITESPACE.lstrip_blocks);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_debug(false);
        let literal = prepared.longest_literal.max(1) as u64;
        environment.set_fuel(Some((MAX_LITERALS / literal).min(MAX_FUEL)));
        super::meter::install(&mut environment, &meter);
        functions::install(&mut environment, clock);
        let weighing = Arc::clone(&meter);
        environment.set_formatter(move |out, _, value| {
            weighing.weigh(value)?;
            functions::print(out, value)
        });
        let name = source.place.clone();
        let compile = || environment.add_template_owned(name, prepared.text);
        on_large_stack(compile).and_then(|done| done.map_err(|error| error.to_string())).map_err(failed)?;
        Ok(Self {
            environment,
            meter,
            place: source.place.clone(),
            path: folder.join(&source.place),
            asks_for_date: prepared.asks_for_date,
            rendering: Mutex::new(()),
            bos,
            eos,
        })
    }

    /// Renders a conversation.
    ///
    /// # Errors
    /// A conversation that the template refuses, a template that fails ([`TorchError::Template`]) or goes beyond its
    /// bounds ([`TorchError::TemplateLimit`]).
    pub(super) fn render(&self, messages: &Value, add_generation_prompt: bool) -> Result<String> {
        let _one = self.rendering.lock().unwrap_or_else(PoisonError::into_inner);
        self.meter.reset();
        let render = || {
            let values = context! {
                messages => messages,
                // As transformers passes them: defined, and none.
                tools => Option::<Vec<Value>>::None,
                documents => Option::<Vec<Value>>::None,
                add_generation_prompt => add_generation_prompt,
                bos_token => self.bos,
                eos_token => self.eos,
            };
            let mut text = Bounded(Vec::new());
            let template = self.environment.get_template(&self.place)?;
            template.render_captured_to(values, &mut text)?;
            String::from_utf8(text.0).map_err(|_| Error::new(ErrorKind::WriteFailure, "wrote no text"))
        };
        let outcome = on_large_stack(|| render().map_err(|error| self.failure(&error)));
        outcome.map_err(|why| TorchError::Template(format!("{}: {why}", self.place)))?
    }

    fn failure(&self, error: &Error) -> TorchError {
        if let Some(refusal) = functions::cause::<Refusal>(error) {
            let message = shortened(&refusal.0);
            return TorchError::Prompt(format!("the chat template refuses the conversation: {message}"));
        }
        if let Some(why) = functions::cause::<OutOfBounds>(error) {
            return TorchError::TemplateLimit { path: self.path.clone(), reason: why.to_string() };
        }
        if error.kind() == ErrorKind::OutOfFuel {
            let why = "it does not end within the instructions that it may take".to_owned();
            return TorchError::TemplateLimit { path: self.path.clone(), reason: why };
        }
        TorchError::Template(format!("{}: {}", self.place, shortened(&error.to_string())))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Template").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Runs work on a thread with a large stack; memory is taken as it is used.
fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("isr-template".to_owned()).stack_size(STACK_BYTES);
        let thread =
            builder.spawn_scoped(scope, work).map_err(|error| format!("no thread for it: {error}"))?;
        thread.join().map_err(|_| "the template engine failed on it".to_owned())
    })
}

/// Cuts a message that a template wrote.
fn shortened(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((end, _)) => format!("{}...", &message[..end]),
        None => message.to_owned(),
    }
}

/// Bytes of at most [`MAX_OUTPUT`].
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(std::io::Error::other(format!("the text is longer than {} MiB", MAX_OUTPUT >> 20)));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
