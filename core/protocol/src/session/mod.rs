//! A session: calls to one configured component, across restarts of its process.

mod calls;
mod driver;
mod greeting;
mod questions;

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use calls::Waiting;
pub(crate) use calls::{OnProgress, Sending};
use driver::Driver;
use futures::StreamExt;
use futures::channel::oneshot;
use futures::future::{Either, ready, select};
use isr_api::messages::ComponentSpec;
use serde_json::Value;

use crate::error::{SessionError, SessionErrorKind};
use crate::exchange::Exchange;
use crate::limits::Limits;
use crate::message::{Answer, HostRequest};
use crate::process::ProcessEvent;
use crate::program::Program;
use crate::questions::{self as answers, CaseContext, Subject};

pub use greeting::hello;

/// Events that wait for a session's thread. Whoever sends more waits: a process until it is read, a caller until its
/// call is taken.
const EVENTS: usize = 256;

/// Input of a session's thread.
enum Event {
    /// A new call.
    Call(Waiting),
    /// The caller of this call is gone.
    Cancel(u64),
    /// The answer to a question of the process of this number.
    Answered { process: u64, id: u64, answer: Answer },
    /// An event of the process of this number.
    Process { process: u64, event: ProcessEvent },
    /// The end of the session.
    Close,
}

/// A question, with the number of the process that asks it.
#[derive(Debug)]
struct Question {
    process: u64,
    request: HostRequest,
}

type Outcome = Result<Value, SessionError>;

/// A running, configured component. Dropping it ends the process.
pub struct Session {
    events: SyncSender<Event>,
    ids: AtomicU64,
    limits: Limits,
    /// With an exchange folder, ends with the session's thread.
    ended: Option<Mutex<Receiver<()>>>,
}

/// How a call is made, besides its method and parameters.
#[derive(Default)]
pub(crate) struct CallOptions<'a> {
    /// What questions of the process are about; without it they are refused.
    pub(crate) subject: Option<Subject<'a>>,
    /// Gets progress that the process tells.
    pub(crate) on_progress: Option<OnProgress>,
    /// How it is sent.
    pub(crate) sending: Sending,
}

/// Longest wait for the end of a process that may write into its exchange folder.
const END: Duration = Duration::from_secs(5);

impl Session {
    /// Starts the program and configures the component.
    ///
    /// # Errors
    /// It does not start, does not speak the protocol, does not declare the component, or refuses the
    /// settings.
    pub fn start(program: Program, component: ComponentSpec, limits: Limits) -> Result<Self, SessionError> {
        Self::start_with(program, component, limits, None)
    }

    /// Starts the program with a folder for arrays.
    pub(crate) fn start_with(
        program: Program,
        component: ComponentSpec,
        limits: Limits,
        exchange: Option<Arc<Exchange>>,
    ) -> Result<Self, SessionError> {
        let (events, received) = mpsc::sync_channel(EVENTS);
        let (ready, started) = mpsc::sync_channel(1);
        let (ends, ended) = mpsc::sync_channel::<()>(0);
        let ended = exchange.is_some().then(|| Mutex::new(ended));
        let driver = Driver::new(program, component, limits, exchange, events.clone());
        thread::spawn(move || {
            driver.run(&received, &ready);
            drop(ends);
        });
        started.recv().unwrap_or_else(|_| Err(SessionErrorKind::Closed.into()))?;
        Ok(Self { events, ids: AtomicU64::new(1), limits, ended })
    }

    /// Calls a method. Questions of the process are about `context`, or refused without one.
    pub(crate) async fn call(
        &self,
        method: &'static str,
        params: Value,
        context: Option<CaseContext<'_>>,
    ) -> Outcome {
        let subject = context.map(Subject::Case);
        self.call_with(method, params, CallOptions { subject, ..CallOptions::default() }).await
    }

    /// Calls a method in the way of `options`.
    pub(crate) async fn call_with(
        &self,
        method: &'static str,
        params: Value,
        options: CallOptions<'_>,
    ) -> Outcome {
        let CallOptions { subject, on_progress, sending } = options;
        let limits = &self.limits.questions;
        // Twice as many as are in flight: a retried call still has the questions of the process that ended.
        let (mut ask, questions) = futures::channel::mpsc::channel(2 * limits.in_flight);
        let (done, outcome) = oneshot::channel();
        let on_question = Box::new(move |question| ask.try_send(question).is_ok());
        let on_done = Box::new(move |outcome| drop(done.send(outcome)));
        let id = self.next_id();
        let retry_alone = false;
        let call = Waiting { id, method, params, on_question, on_progress, on_done, sending, retry_alone };
        let mut open = self.begin(call);
        let react = async |Question { process, request }| {
            let id = request.id;
            let answer = match subject {
                Some(subject) => answers::answer(request, subject, limits).await,
                None => refuse(&request, method),
            };
            let _ = self.events.send(Event::Answered { process, id, answer });
        };
        // Questions that are open at the same time are answered at the same time.
        let answering = questions.map(react).buffer_unordered(limits.in_flight).for_each(ready);
        let outcome = match select(outcome, pin!(answering)).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(((), outcome)) => outcome.await,
        };
        open.done = outcome.is_ok();
        outcome.unwrap_or_else(|_| Err(SessionErrorKind::Closed.into()))
    }

    /// Calls a method on a thread that may block; questions of the process are refused.
    pub(crate) fn call_blocking(&self, method: &'static str, params: Value) -> Outcome {
        let (send, replies) = mpsc::sync_channel(self.limits.questions.in_flight + 1);
        let ask = send.clone();
        let on_question = Box::new(move |question| ask.try_send(Either::Left(question)).is_ok());
        let on_done = Box::new(move |outcome| drop(send.send(Either::Right(outcome))));
        let (id, on_progress, sending, retry_alone) = (self.next_id(), None, Sending::default(), false);
        let call = Waiting { id, method, params, on_question, on_progress, on_done, sending, retry_alone };
        let mut open = self.begin(call);
        for reply in replies {
            match reply {
                Either::Right(outcome) => {
                    open.done = true;
                    return outcome;
                }
                Either::Left(Question { process, request }) => {
                    let (id, answer) = (request.id, refuse(&request, method));
                    let _ = self.events.send(Event::Answered { process, id, answer });
                }
            }
        }
        Err(SessionErrorKind::Closed.into())
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn begin(&self, call: Waiting) -> OpenCall<'_> {
        let id = call.id;
        let _ = self.events.send(Event::Call(call));
        OpenCall { events: &self.events, id, done: false }
    }
}

fn refuse(request: &HostRequest, method: &str) -> Answer {
    let message = format!("there is nothing to `{}` during `{method}`", request.method);
    Answer::Error { code: "failed".to_owned(), message }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Close);
        if let Some(ended) = &mut self.ended {
            // What is left in the folder goes with it, and the program may end right behind this.
            let ended = ended.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = ended.recv_timeout(END);
        }
    }
}

/// Cancels its call when it is dropped, unless the call is done.
struct OpenCall<'a> {
    events: &'a SyncSender<Event>,
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
