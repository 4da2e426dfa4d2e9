//! A session's thread: sends calls, hands on answers, watches the clock, starts the process again.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::calls::{Asking, Calls, Waiting};
use super::greeting::{CONFIGURE, GRACE, Phase, choose, configure, declared, greeting};
use super::{Event, Reply, Wanted};
use crate::error::{Fault, SessionError};
use crate::limits::Limits;
use crate::message::{Answer, Ask, FromPlugin, ToPlugin};
use crate::process::{Heard, Process};
use crate::program::Program;

/// What is told when the component is configured, or cannot be.
pub(super) type Started = Result<(), SessionError>;

pub(super) struct Driver {
    program: Program,
    wanted: Wanted,
    limits: Limits,
    events: Sender<Event>,
    calls: Calls,
    running: Option<Running>,
    /// How many processes there have been.
    processes: u64,
    /// How many of them were started again since the last answer.
    restarted: u32,
    /// Why the process ended the last time.
    last_fault: String,
}

struct Running {
    process: Process,
    number: u64,
    phase: Phase,
    /// When it last said something of its calls, or was told something.
    last_sign: Instant,
}

impl Driver {
    pub(super) fn new(program: Program, wanted: Wanted, limits: Limits, events: Sender<Event>) -> Self {
        let calls = Calls::default();
        let (running, processes, restarted, last_fault) = (None, 0, 0, String::new());
        Self { program, wanted, limits, events, calls, running, processes, restarted, last_fault }
    }

    /// Serves until the session is closed.
    pub(super) fn run(mut self, events: &Receiver<Event>, started: &Sender<Started>) {
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
                serves = !matches!(error.fault, Fault::Closed);
                if serves {
                    self.recover(error);
                }
            }
        }
        self.end_process(GRACE);
        self.calls.take_all().into_iter().for_each(|call| done(&call, Err(Fault::Closed.into())));
    }

    fn is_ready(&self) -> bool {
        matches!(&self.running, Some(Running { phase: Phase::Ready { .. }, .. }))
    }

    fn start(&mut self) -> Result<(), SessionError> {
        self.processes += 1;
        let (number, events) = (self.processes, self.events.clone());
        let hear = move |heard| drop(events.send(Event::Heard { process: number, heard }));
        let process = Process::start(&self.program, self.limits.line_bytes, hear)?;
        process.write(&greeting());
        let now = Instant::now();
        let phase = Phase::Greeted { until: now + self.limits.start };
        self.running = Some(Running { process, number, phase, last_sign: now });
        Ok(())
    }

    /// Sends what can be sent.
    fn pump(&mut self) -> Result<(), SessionError> {
        if self.running.is_none() && self.calls.is_waiting() {
            let restarts = self.limits.restarts;
            if self.restarted >= restarts {
                let fault = || Fault::Restarts { restarts, last: self.last_fault.clone() };
                self.calls.take_all().iter().for_each(|call| done(call, Err(fault().into())));
                return Ok(());
            }
            self.restarted += 1;
            self.start()?;
        }
        let Some(running) = &mut self.running else { return Ok(()) };
        let Phase::Ready { workers } = running.phase else { return Ok(()) };
        while let Some(calls) = self.calls.next_message(workers, self.limits.batch) {
            running.last_sign = Instant::now();
            running.process.write(&ToPlugin::Calls { calls });
        }
        Ok(())
    }

    /// Waits for one event, or for the clock. An error ends the process.
    fn step(&mut self, events: &Receiver<Event>) -> Result<(), SessionError> {
        let event = match self.patience() {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => events.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match event {
            Ok(Event::Call(call)) => self.calls.add(call),
            Ok(Event::Cancel(id)) => {
                if self.calls.cancel(id) {
                    self.tell(&ToPlugin::Cancel { id });
                }
            }
            Ok(Event::Answered { process, id, answer }) => {
                if self.is_current(process) && self.calls.answer(id) {
                    self.tell(&ToPlugin::Answer { id, answer });
                }
            }
            Ok(Event::Heard { process, heard }) if self.is_current(process) => self.heard(heard)?,
            Ok(Event::Heard { .. }) => {}
            Ok(Event::Close) | Err(RecvTimeoutError::Disconnected) => return Err(Fault::Closed.into()),
            Err(RecvTimeoutError::Timeout) => return Err(self.silence().into()),
        }
        Ok(())
    }

    /// When the process has been silent for too long.
    fn patience(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        match running.phase {
            Phase::Greeted { until } | Phase::Configuring { until, .. } => Some(until),
            Phase::Ready { .. } => self.calls.is_working().then(|| running.last_sign + self.limits.call),
        }
    }

    fn silence(&self) -> Fault {
        let phase = self.running.as_ref().map(|running| running.phase);
        match phase {
            Some(Phase::Greeted { .. }) => {
                Fault::Silent { limit: self.limits.start, what: " to the hello" }
            }
            Some(Phase::Configuring { .. }) => {
                Fault::Silent { limit: self.limits.start, what: " to `configure`" }
            }
            _ => Fault::Silent { limit: self.limits.call, what: "" },
        }
    }

    fn is_current(&self, process: u64) -> bool {
        self.running.as_ref().is_some_and(|running| running.number == process)
    }

    /// Tells the process something; its silence counts from now.
    fn tell(&mut self, message: &ToPlugin) {
        if let Some(running) = &mut self.running {
            running.last_sign = Instant::now();
            running.process.write(message);
        }
    }

    fn heard(&mut self, heard: Heard) -> Result<(), SessionError> {
        let message = match heard {
            Heard::Message(message) => message,
            Heard::Broken(fault) => return Err(fault.into()),
            Heard::Closed => return Err(Fault::Ended(String::new()).into()),
        };
        let Some(running) = &mut self.running else { return Ok(()) };
        running.last_sign = Instant::now();
        match (running.phase, message) {
            (Phase::Greeted { .. }, message) => {
                let components = declared(message)?;
                let workers = choose(&self.wanted, &components)?.workers;
                running.phase = Phase::Configuring { until: Instant::now() + self.limits.start, workers };
                running.process.write(&configure(&self.wanted));
            }
            (Phase::Configuring { workers, .. }, FromPlugin::Result { id: CONFIGURE, .. }) => {
                running.phase = Phase::Ready { workers };
            }
            (Phase::Configuring { .. }, FromPlugin::Error { id: CONFIGURE, code, message }) => {
                return Err(Fault::Reported { code, message }.into());
            }
            (Phase::Ready { .. }, FromPlugin::Result { id, value }) => self.answered(id, Ok(value))?,
            (Phase::Ready { .. }, FromPlugin::Error { id, code, message }) => {
                self.answered(id, Err(Fault::Reported { code, message }))?;
            }
            (Phase::Ready { .. }, FromPlugin::Ask(ask)) => self.asked(ask)?,
            (phase, _) => {
                let text = format!("a message that is not due while {}", doing(phase));
                return Err(Fault::Protocol(text).into());
            }
        }
        Ok(())
    }

    fn answered(&mut self, id: u64, result: Result<serde_json::Value, Fault>) -> Result<(), Fault> {
        self.restarted = 0;
        match self.calls.end(id) {
            Some(Some(call)) => done(&call, result.map_err(SessionError::from)),
            Some(None) => {}
            None => {
                return Err(Fault::Protocol(format!("it answered call {id}, which is not open")));
            }
        }
        Ok(())
    }

    fn asked(&mut self, ask: Ask) -> Result<(), Fault> {
        let (id, call, limit) = (ask.id, ask.call, self.limits.asks);
        let number = self.processes;
        let refusal = match self.calls.ask(call, id, limit) {
            Asking::Of(tell) => {
                tell(Reply::Ask { process: number, ask });
                return Ok(());
            }
            Asking::Nobody => "the call has been cancelled".to_owned(),
            Asking::TooMany => format!("the call has asked {limit} questions, more than it may"),
            Asking::Wrong => {
                return Err(Fault::Protocol(format!("it asked about call {call}, which is not open")));
            }
        };
        self.tell(&ToPlugin::Answer {
            id,
            answer: Answer::Error { code: "failed".to_owned(), message: refusal },
        });
        Ok(())
    }

    /// Ends the process, and gives up the call that is at fault; others are sent to the next process.
    fn recover(&mut self, error: SessionError) {
        let silent = matches!(error.fault, Fault::Silent { .. });
        let error = self.ended(error);
        self.last_fault = error.to_string();
        tracing::warn!(plugin = self.program.name, "{error}");
        if let Some(guilty) = self.calls.process_ended(silent) {
            done(&guilty, Err(error));
        }
    }

    /// Ends the process, and adds how it ended.
    fn ended(&mut self, SessionError { fault, stderr }: SessionError) -> SessionError {
        let grace = if matches!(fault, Fault::Ended(_)) { GRACE } else { Duration::ZERO };
        let (status, stderr) = self.end_process(grace).unwrap_or((String::new(), stderr));
        match fault {
            Fault::Ended(_) => SessionError { fault: Fault::Ended(status), stderr },
            // It says itself what is wrong.
            Fault::Reported { .. } => fault.into(),
            fault => SessionError { fault, stderr },
        }
    }

    fn end_process(&mut self, grace: Duration) -> Option<(String, Vec<String>)> {
        self.running.take().map(|running| running.process.end(grace))
    }
}

fn done(call: &Waiting, result: Result<serde_json::Value, SessionError>) {
    (call.tell)(Reply::Done(result));
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Greeted { .. } => "it is greeted",
        Phase::Configuring { .. } => "it is configured",
        Phase::Ready { .. } => "it takes calls",
    }
}
