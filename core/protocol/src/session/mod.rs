//! A session: calls to one configured component, whatever becomes of its process.

mod calls;
mod driver;
mod greeting;

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;

use calls::{Tell, Waiting};
use driver::Driver;
use futures::StreamExt;
use futures::channel::mpsc::unbounded;
use isr_api::Kind;
use serde_json::Value;

use crate::error::{Fault, SessionError};
use crate::form::{self, Asked};
use crate::limits::Limits;
use crate::message::{Answer, Ask};
use crate::process::Heard;
use crate::program::Program;

pub use greeting::hello;

/// What a session's thread is told.
enum Event {
    /// Somebody calls.
    Call(Waiting),
    /// Somebody no longer waits.
    Cancel(u64),
    /// Somebody answers what the process of this number asked.
    Answered { process: u64, id: u64, answer: Answer },
    /// The process of this number says something.
    Heard { process: u64, heard: Heard },
    /// The session is over.
    Close,
}

/// What a caller is told.
#[derive(Debug)]
enum Reply {
    /// The process of this number asks.
    Ask { process: u64, ask: Ask },
    /// The call is done.
    Done(Result<Value, SessionError>),
}

/// The component that a session is about.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) settings: Value,
}

/// A running, configured component. Dropping it ends the process.
pub struct Session {
    events: Sender<Event>,
    ids: AtomicU64,
}

impl Session {
    /// Starts the program and configures the component.
    ///
    /// # Errors
    /// It does not start, does not speak the protocol, does not declare the component, or refuses the
    /// settings.
    pub fn start(
        program: Program,
        kind: Kind,
        name: &str,
        settings: Value,
        limits: Limits,
    ) -> Result<Self, SessionError> {
        let wanted = Wanted { kind, name: name.to_owned(), settings };
        let (events, heard) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let driver = Driver::new(program, wanted, limits, events.clone());
        thread::spawn(move || driver.run(&heard, &ready));
        started.recv().unwrap_or_else(|_| Err(Fault::Closed.into()))?;
        Ok(Self { events, ids: AtomicU64::new(1) })
    }

    /// Calls a method. What the process asks meanwhile is about `asked`, or refused.
    pub(crate) async fn call(
        &self,
        method: &'static str,
        params: Value,
        asked: Option<Asked<'_>>,
    ) -> Result<Value, SessionError> {
        let (tell, replies) = unbounded();
        let mut open = self.begin(method, params, Box::new(move |it| drop(tell.unbounded_send(it))));
        let react = async |reply| match reply {
            Reply::Done(result) => Some(result),
            Reply::Ask { process, ask } => {
                let id = ask.id;
                let answer = match asked {
                    Some(asked) => form::answer(ask, asked).await,
                    None => refuse(&ask, method),
                };
                let _ = self.events.send(Event::Answered { process, id, answer });
                None
            }
        };
        // Questions that are open together are answered together; their number is bounded by the limits.
        let mut reactions = pin!(replies.map(react).buffer_unordered(usize::MAX));
        while let Some(reaction) = reactions.next().await {
            if let Some(result) = reaction {
                open.done = true;
                return result;
            }
        }
        Err(Fault::Closed.into())
    }

    /// The same on a thread that may wait; what the process asks is refused.
    pub(crate) fn call_blocking(&self, method: &'static str, params: Value) -> Result<Value, SessionError> {
        let (tell, replies) = mpsc::channel();
        let mut open = self.begin(method, params, Box::new(move |it| drop(tell.send(it))));
        for reply in replies {
            match reply {
                Reply::Done(result) => {
                    open.done = true;
                    return result;
                }
                Reply::Ask { process, ask } => {
                    let (id, answer) = (ask.id, refuse(&ask, method));
                    let _ = self.events.send(Event::Answered { process, id, answer });
                }
            }
        }
        Err(Fault::Closed.into())
    }

    fn begin(&self, method: &'static str, params: Value, tell: Tell) -> OpenCall<'_> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let _ = self.events.send(Event::Call(Waiting { id, method, params, tell, suspect: false }));
        OpenCall { events: &self.events, id, done: false }
    }
}

fn refuse(ask: &Ask, method: &str) -> Answer {
    let message = format!("there is nothing to `{}` during `{method}`", ask.method);
    Answer::Error { code: "failed".to_owned(), message }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Close);
    }
}

/// Cancels its call unless that is done.
struct OpenCall<'a> {
    events: &'a Sender<Event>,
    id: u64,
    done: bool,
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.events.send(Event::Cancel(self.id));
        }
    }
}
