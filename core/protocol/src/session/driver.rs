//! A session's thread: sends calls, routes questions and answers, enforces deadlines, restarts the process.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use isr_api::messages::ComponentSpec;

use super::calls::{Admission, Calls, Waiting};
use super::greeting::{CONFIGURE, GRACE, Phase, choose, configure, declared, greeting};
use super::questions::Questions;
use super::{Event, Outcome, Question};
use crate::error::{SessionError, SessionErrorKind};
use crate::exchange::Exchange;
use crate::limits::Limits;
use crate::message::{Answer, FromPlugin, HostRequest, ToPlugin};
use crate::process::{Process, ProcessEvent};
use crate::program::Program;

/// Outcome of the first start.
pub(super) type Started = Result<(), SessionError>;

pub(super) struct Driver {
    program: Program,
    wanted: ComponentSpec,
    limits: Limits,
    /// Held until the process has ended, which may write into it.
    exchange: Option<Arc<Exchange>>,
    events: SyncSender<Event>,
    calls: Calls,
    questions: Questions,
    running: Option<Running>,
    /// Number of processes so far.
    processes: u64,
    /// Number of restarts since the last answer.
    restarted: u32,
    /// Why the last process ended.
    last_error: String,
}

struct Running {
    process: Process,
    number: u64,
    phase: Phase,
    /// Time of the last message to or from it.
    last_sign: Instant,
}

impl Driver {
    pub(super) fn new(
        program: Program,
        wanted: ComponentSpec,
        limits: Limits,
        exchange: Option<Arc<Exchange>>,
        events: SyncSender<Event>,
    ) -> Self {
        let (calls, questions) = (Calls::default(), Questions::new(limits.questions));
        let (running, processes, restarted, last_error) = (None, 0, 0, String::new());
        Self {
            program,
            wanted,
            limits,
            exchange,
            events,
            calls,
            questions,
            running,
            processes,
            restarted,
            last_error,
        }
    }

    /// Serves until the session is closed.
    pub(super) fn run(mut self, events: &Receiver<Event>, started: &SyncSender<Started>) {
        let first = self.start().and_then(|()| {
            while !self.is_ready() {
                self.step(events)?;
            }
            Ok(())
        });
        let first = first.map_err(|error| self.ended(error));
        let mut serves = first.is_ok();
        let _ = started.send(first);
        while serves {
            if let Err(error) = self.pump().and_then(|()| self.step(events)) {
                serves = !matches!(error.kind, SessionErrorKind::Closed);
                if serves {
                    self.recover(error);
                }
            }
        }
        self.end_process(GRACE);
        self.calls.take_all().into_iter().for_each(|call| done(call, Err(SessionErrorKind::Closed.into())));
    }

    fn is_ready(&self) -> bool {
        matches!(&self.running, Some(Running { phase: Phase::Ready { .. }, .. }))
    }

    fn start(&mut self) -> Result<(), SessionError> {
        self.processes += 1;
        let (number, events) = (self.processes, self.events.clone());
        let on_event = move |event| drop(events.send(Event::Process { process: number, event }));
        let process = Process::start(&self.program, &self.limits, on_event)?;
        process.write(&greeting())?;
        let now = Instant::now();
        let phase = Phase::Greeted { deadline: now + self.limits.start };
        self.running = Some(Running { process, number, phase, last_sign: now });
        Ok(())
    }

    /// Starts a process where one is needed, and sends waiting calls and questions.
    fn pump(&mut self) -> Result<(), SessionError> {
        if self.running.is_none() && self.calls.is_waiting() {
            if self.calls.has_changed() {
                self.fail_all();
                return Ok(());
            }
            let restarts = self.limits.restarts;
            if self.restarted >= restarts {
                let kind = || SessionErrorKind::Restarts { restarts, last: self.last_error.clone() };
                self.calls.take_all().into_iter().for_each(|call| done(call, Err(kind().into())));
                return Ok(());
            }
            self.restarted += 1;
            self.start()?;
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        let Phase::Ready { workers } = running.phase else { return Ok(()) };
        while let Some(calls) = self.calls.next_message(workers, self.limits.batch) {
            running.last_sign = Instant::now();
            running.process.write(&ToPlugin::Calls { calls })?;
        }
        self.hand_out_questions()
    }

    /// Waits for one event, or for the clock. An error ends the process.
    fn step(&mut self, events: &Receiver<Event>) -> Result<(), SessionError> {
        let event = match self.deadline() {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => events.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match event {
            Ok(Event::Call(call)) => self.calls.add(call),
            Ok(Event::Cancel(id)) => {
                if let Some(unanswered) = self.calls.cancel(id) {
                    self.send(&ToPlugin::Cancel { id })?;
                    self.refuse_all(id, unanswered, "the call has been cancelled")?;
                }
            }
            Ok(Event::Answered { process, id, answer }) => {
                if self.is_current(process) && self.calls.answer(id) {
                    self.send(&ToPlugin::Answer { id, answer })?;
                }
            }
            Ok(Event::Process { process, event }) if self.is_current(process) => self.process(event)?,
            Ok(Event::Process { .. }) => {}
            Ok(Event::Close) | Err(RecvTimeoutError::Disconnected) => {
                return Err(SessionErrorKind::Closed.into());
            }
            Err(RecvTimeoutError::Timeout) => return Err(self.silence().into()),
        }
        Ok(())
    }

    /// Time at which the process counts as silent.
    fn deadline(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        match running.phase {
            Phase::Greeted { deadline } | Phase::Configuring { deadline, .. } => Some(deadline),
            Phase::Ready { .. } => self.calls.is_working().then(|| running.last_sign + self.limits.call),
        }
    }

    fn silence(&self) -> SessionErrorKind {
        let phase = self.running.as_ref().map(|running| running.phase);
        match phase {
            Some(Phase::Greeted { .. }) => {
                SessionErrorKind::Silent { limit: self.limits.start, what: " to the hello" }
            }
            Some(Phase::Configuring { .. }) => {
                SessionErrorKind::Silent { limit: self.limits.start, what: " to `configure`" }
            }
            _ => SessionErrorKind::Silent { limit: self.limits.call, what: "" },
        }
    }

    fn is_current(&self, process: u64) -> bool {
        self.running.as_ref().is_some_and(|running| running.number == process)
    }

    /// Sends the process a message; its silence counts from now.
    fn send(&mut self, message: &ToPlugin) -> Result<(), SessionErrorKind> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.last_sign = Instant::now();
        running.process.write(message)
    }

    fn process(&mut self, event: ProcessEvent) -> Result<(), SessionError> {
        let (message, bytes) = match event {
            ProcessEvent::Message { message, bytes } => (message, bytes),
            ProcessEvent::Broken(kind) => return Err(kind.into()),
            ProcessEvent::Closed => return Err(SessionErrorKind::Ended(String::new()).into()),
            ProcessEvent::AnswerWritten(id) => {
                self.questions.end(id);
                return Ok(());
            }
        };
        let Some(running) = &mut self.running else { return Ok(()) };
        running.last_sign = Instant::now();
        match (running.phase, message) {
            (Phase::Greeted { .. }, message) => {
                let components = declared(message)?;
                let workers = choose(&self.wanted, &components)?.workers;
                running.phase =
                    Phase::Configuring { deadline: Instant::now() + self.limits.start, workers };
                running.process.write(&configure(&self.wanted, self.exchange.as_deref()))?;
            }
            (Phase::Configuring { workers, .. }, FromPlugin::Result { id: CONFIGURE, .. }) => {
                running.phase = Phase::Ready { workers };
            }
            (Phase::Configuring { .. }, FromPlugin::Error { id: CONFIGURE, code, message }) => {
                return Err(SessionErrorKind::Reported { code, message }.into());
            }
            (Phase::Ready { .. }, FromPlugin::Result { id, value }) => self.answered(id, Ok(value))?,
            (Phase::Ready { .. }, FromPlugin::Error { id, code, message }) => {
                self.answered(id, Err(SessionErrorKind::Reported { code, message }))?;
            }
            (Phase::Ready { .. }, FromPlugin::Ask(request)) => self.asked(request, bytes)?,
            (Phase::Ready { .. }, FromPlugin::Progress { id, progress }) => {
                self.calls.progress(id, progress);
            }
            (phase, _) => {
                let text = format!("a message that is not due while {}", doing(phase));
                return Err(SessionErrorKind::Protocol(text).into());
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        id: u64,
        result: Result<serde_json::Value, SessionErrorKind>,
    ) -> Result<(), SessionErrorKind> {
        self.restarted = 0;
        let Some((call, unanswered)) = self.calls.end(id) else {
            return Err(SessionErrorKind::Protocol(format!("it answered call {id}, which is not open")));
        };
        if let Some(call) = call {
            done(call, result.map_err(SessionError::from));
        }
        self.refuse_all(id, unanswered, "the call is over")
    }

    fn asked(&mut self, request: HostRequest, bytes: usize) -> Result<(), SessionErrorKind> {
        let (id, call, most) = (request.id, request.call, self.limits.questions.per_call);
        let admission = match self.questions.is_waiting(id) {
            true => Admission::Invalid,
            false => self.calls.admit(call, id, most),
        };
        let refusal = match admission {
            Admission::Admitted => match self.questions.add(request, bytes) {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            },
            Admission::Cancelled => "the call has been cancelled".to_owned(),
            Admission::TooMany => format!("the call has asked {most} questions, more than it may"),
            Admission::Invalid => {
                return Err(SessionErrorKind::Protocol(format!(
                    "it asked about call {call}, which is not open"
                )));
            }
        };
        tracing::warn!(
            plugin = self.program.name,
            component = self.wanted.name,
            "a question is refused: {refusal}"
        );
        self.refuse(id, refusal)
    }

    /// Hands waiting questions to their callers, while few enough are in flight.
    fn hand_out_questions(&mut self) -> Result<(), SessionError> {
        while let Some(request) = self.questions.next() {
            let (process, id) = (self.processes, request.id);
            if !self.calls.ask(Question { process, request }) {
                self.refuse(id, "nobody can answer it any more".to_owned())?;
            }
        }
        Ok(())
    }

    /// Refuses the questions of a call, those that wait included.
    fn refuse_all(
        &mut self,
        call: u64,
        asked: impl IntoIterator<Item = u64>,
        reason: &str,
    ) -> Result<(), SessionErrorKind> {
        let waiting = self.questions.withdraw(call);
        asked.into_iter().chain(waiting).try_for_each(|id| self.refuse(id, reason.to_owned()))
    }

    fn refuse(&mut self, id: u64, message: String) -> Result<(), SessionErrorKind> {
        let answer = Answer::Error { code: "failed".to_owned(), message };
        self.send(&ToPlugin::Answer { id, answer })
    }

    /// Ends the process, and fails the call that caused it; others are sent to the next process.
    fn recover(&mut self, error: SessionError) {
        let silent = matches!(error.kind, SessionErrorKind::Silent { .. });
        let error = self.ended(error);
        self.last_error = error.to_string();
        tracing::warn!(plugin = self.program.name, "{error}");
        self.questions.clear();
        if self.calls.has_changed() {
            return self.fail_all();
        }
        if let Some(culprit) = self.calls.process_ended(silent) {
            done(culprit, Err(error));
        }
    }

    /// Fails all calls of a process that has ended, and that no other can stand for.
    fn fail_all(&mut self) {
        let lost = || SessionErrorKind::Lost { last: self.last_error.clone() };
        self.calls.take_all().into_iter().for_each(|call| done(call, Err(lost().into())));
    }

    /// Ends the process, and adds its status and stderr to the error.
    fn ended(&mut self, SessionError { kind, stderr_tail }: SessionError) -> SessionError {
        let grace = if matches!(kind, SessionErrorKind::Ended(_)) { GRACE } else { Duration::ZERO };
        let (status, stderr_tail) = self.end_process(grace).unwrap_or((String::new(), stderr_tail));
        match kind {
            SessionErrorKind::Ended(_) => {
                SessionError { kind: SessionErrorKind::Ended(status), stderr_tail }
            }
            // It says itself what is wrong.
            SessionErrorKind::Reported { .. } => kind.into(),
            kind => SessionError { kind, stderr_tail },
        }
    }

    fn end_process(&mut self, grace: Duration) -> Option<(String, Vec<String>)> {
        self.running.take().map(|running| running.process.end(grace))
    }
}

fn done(call: Waiting, outcome: Outcome) {
    (call.on_done)(outcome);
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Greeted { .. } => "it is greeted",
        Phase::Configuring { .. } => "it is configured",
        Phase::Ready { .. } => "it takes calls",
    }
}
