//! The first messages of a process.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::Wanted;
use crate::error::{Fault, SessionError};
use crate::limits::Limits;
use crate::message::{Call, Declared, FromPlugin, ToPlugin, VERSION};
use crate::process::{Heard, Process};
use crate::program::Program;

/// Id of the call that configures; those of other calls are larger.
pub(super) const CONFIGURE: u64 = 0;

/// Starts a program, and returns what it declares.
///
/// # Errors
/// It does not start, or does not say hello in time or in a version of the protocol that is spoken here.
pub fn hello(program: &Program, limits: &Limits) -> Result<Vec<Declared>, SessionError> {
    let (hear, heard) = mpsc::channel();
    let process = Process::start(program, limits.line_bytes, move |it| drop(hear.send(it)))?;
    process.write(&greeting());
    let said = match heard.recv_timeout(limits.start) {
        Ok(Heard::Message(message)) => declared(message),
        Ok(Heard::Broken(fault)) => Err(fault),
        Ok(Heard::Closed) => Err(Fault::Ended(String::new())),
        Err(_) => Err(Fault::Silent { limit: limits.start, what: " to the hello" }),
    };
    let grace = if matches!(said, Err(Fault::Silent { .. })) { Duration::ZERO } else { GRACE };
    let (status, stderr) = process.end(grace);
    match said {
        Ok(components) => Ok(components),
        Err(Fault::Ended(_)) => Err(SessionError { fault: Fault::Ended(status), stderr }),
        Err(fault) => Err(SessionError { fault, stderr }),
    }
}

/// How long a process may take to end after its input is closed.
pub(super) const GRACE: Duration = Duration::from_millis(500);

pub(super) fn greeting() -> ToPlugin {
    let host = concat!("isr ", env!("CARGO_PKG_VERSION")).to_owned();
    ToPlugin::Hello { protocols: vec![VERSION], host }
}

/// What a hello declares.
pub(super) fn declared(message: FromPlugin) -> Result<Vec<Declared>, Fault> {
    match message {
        FromPlugin::Hello { protocol: VERSION, components, .. } => Ok(components),
        FromPlugin::Hello { protocol, sdk, .. } => Err(Fault::Protocol(format!(
            "it speaks version {protocol} of the protocol ({sdk}), and this program version {VERSION}; use \
             an isr_plugin of this program's version"
        ))),
        _ => Err(Fault::Protocol("its first message is no hello".to_owned())),
    }
}

/// The component that is wanted, among those declared.
pub(super) fn choose<'d>(wanted: &Wanted, declared: &'d [Declared]) -> Result<&'d Declared, Fault> {
    let found = declared.iter().find(|it| it.kind == wanted.kind && it.name == wanted.name);
    found.ok_or_else(|| {
        let all: Vec<_> =
            declared.iter().map(|it| format!("{} `{}`", it.kind.section(), it.name)).collect();
        let all = if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
        Fault::Undeclared(format!(
            "it declares no {} `{}`, but {all}; has the file changed since it was loaded?",
            wanted.kind.section(),
            wanted.name
        ))
    })
}

pub(super) fn configure(wanted: &Wanted) -> ToPlugin {
    let Wanted { kind, name, settings } = wanted;
    let params = serde_json::json!({ "kind": kind, "name": name, "settings": settings });
    ToPlugin::Calls { calls: vec![Call { id: CONFIGURE, method: "configure".to_owned(), params }] }
}

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// It has been greeted.
    Greeted {
        /// When its patience ends.
        until: Instant,
    },
    /// It is being configured.
    Configuring {
        /// When its patience ends.
        until: Instant,
        /// See [`Declared::workers`].
        workers: usize,
    },
    /// It takes calls.
    Ready {
        /// See [`Declared::workers`].
        workers: usize,
    },
}
