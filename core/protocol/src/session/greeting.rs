//! Greeting and configuration of a process.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use isr_api::messages::ComponentSpec;

use crate::error::{SessionError, SessionErrorKind};
use crate::exchange::Exchange;
use crate::limits::Limits;
use crate::message::{Call, Configure, Declared, FromPlugin, ToPlugin, VERSION};
use crate::process::{Process, ProcessEvent};
use crate::program::Program;

/// Id of the call `configure`, smaller than all others.
pub(super) const CONFIGURE: u64 = 0;

/// Starts a program, and returns what it declares.
///
/// # Errors
/// It does not start, or does not say hello in time or in a version of the protocol that is spoken here.
pub fn hello(program: &Program, limits: &Limits) -> Result<Vec<Declared>, SessionError> {
    let (send, events) = mpsc::sync_channel(1);
    let process = Process::start(program, limits, move |event| drop(send.send(event)))?;
    process.write(&greeting())?;
    let said = match events.recv_timeout(limits.start) {
        Ok(ProcessEvent::Message { message, .. }) => declared(message),
        Ok(ProcessEvent::Broken(kind)) => Err(kind),
        Ok(ProcessEvent::Closed | ProcessEvent::AnswerWritten(_)) => {
            Err(SessionErrorKind::Ended(String::new()))
        }
        Err(_) => Err(SessionErrorKind::Silent { limit: limits.start, what: " to the hello" }),
    };
    // What else it writes is read and dropped, so that it can exit.
    drop(events);
    let grace = if matches!(said, Err(SessionErrorKind::Silent { .. })) { Duration::ZERO } else { GRACE };
    let (status, stderr_tail) = process.end(grace);
    match said {
        Ok(components) => Ok(components),
        Err(SessionErrorKind::Ended(_)) => {
            Err(SessionError { kind: SessionErrorKind::Ended(status), stderr_tail })
        }
        // It says itself what is wrong.
        Err(kind @ SessionErrorKind::Reported { .. }) => Err(kind.into()),
        Err(kind) => Err(SessionError { kind, stderr_tail }),
    }
}

/// Time to exit after the input is closed.
pub(super) const GRACE: Duration = Duration::from_millis(500);

pub(super) fn greeting() -> ToPlugin {
    let host = concat!("isr ", env!("CARGO_PKG_VERSION")).to_owned();
    ToPlugin::Hello { protocols: vec![VERSION], host }
}

/// The components that a greeting declares.
pub(super) fn declared(message: FromPlugin) -> Result<Vec<Declared>, SessionErrorKind> {
    match message {
        FromPlugin::Hello { protocol: VERSION, components, .. } => Ok(components),
        FromPlugin::Hello { protocol, sdk, .. } => Err(SessionErrorKind::Protocol(format!(
            "it speaks version {protocol} of the protocol ({sdk}), and this program version {VERSION}; use \
             an isr_plugin of this program's version"
        ))),
        FromPlugin::Error { code, message, .. } => Err(SessionErrorKind::Reported { code, message }),
        _ => Err(SessionErrorKind::Protocol("its first message is no hello".to_owned())),
    }
}

/// The declaration of the wanted component.
pub(super) fn choose<'d>(
    wanted: &ComponentSpec,
    declared: &'d [Declared],
) -> Result<&'d Declared, SessionErrorKind> {
    let found = declared.iter().find(|it| it.kind == wanted.kind && it.name == wanted.name);
    found.ok_or_else(|| {
        let all: Vec<_> =
            declared.iter().map(|it| format!("{} `{}`", it.kind.section(), it.name)).collect();
        let all = if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
        SessionErrorKind::Undeclared(format!(
            "it declares no {} `{}`, but {all}; has the file changed since it was loaded?",
            wanted.kind.section(),
            wanted.name
        ))
    })
}

pub(super) fn configure(wanted: &ComponentSpec, exchange: Option<&Exchange>) -> ToPlugin {
    let (component, exchange) = (wanted.clone(), exchange.map(Exchange::path));
    let params = serde_json::json!(Configure { component, exchange });
    ToPlugin::Calls { calls: vec![Call { id: CONFIGURE, method: "configure".to_owned(), params }] }
}

/// Phase of a process's life.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// It was sent the greeting.
    Greeted {
        /// Deadline of its reply.
        deadline: Instant,
    },
    /// It was sent `configure`.
    Configuring {
        /// Deadline of its reply.
        deadline: Instant,
        /// See [`Declared::workers`].
        workers: usize,
    },
    /// It takes calls.
    Ready {
        /// See [`Declared::workers`].
        workers: usize,
    },
}
