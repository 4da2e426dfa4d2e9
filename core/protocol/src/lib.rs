//! The protocol between isr and a plugin that is a process of its own: JSON lines over its standard input
//! and output. `docs/plugin-protocol.md` defines it for authors in any language.
//!
//! | part | what it is | where |
//! |---|---|---|
//! | envelope | the lines; what they carry is [`isr_api::messages`] | `message.rs`, `keys.rs` |
//! | process | a child process, its lines, the end of its stderr | `process/` |
//! | session | calls to a process that is restarted when it ends | `session/` |
//! | questions | what the policy, the video and the objective answer during a call | `questions.rs` |
//! | exchange | a folder for pixels and features, which are too large for lines; both sides | `exchange/` |
//! | components | judge, retrospector, objective, evaluator, observer, datasets, policy and encoder on a session | `component/` |
//! | plugin | a program's components, each with a session of its own | `plugin.rs` |
//!
//! # What holds
//! - Every call ends: with an answer, or with an error that names plugin, call and cause. No answer is used
//!   twice, none is given to another call.
//! - A process that ends, is silent for too long or breaks the protocol is ended, and started again while
//!   [`Limits::restarts`] lasts. A call that was open then is sent once more, alone; if that ends the
//!   process again, the case is at fault.
//! - Calls of training are sent once, and a process with weights of a training is not started again: a new one would
//!   have others.
//! - Whatever a process writes, and whether or not it reads, memory is bounded: lines by [`Limits::line_bytes`],
//!   stderr by its last lines, questions by [`QuestionLimits`](isr_api::messages::QuestionLimits), messages to it
//!   by [`Limits::unread`].

mod component;
mod error;
mod exchange;
mod keys;
mod limits;
mod message;
mod plugin;
mod process;
mod program;
mod questions;
mod session;

pub use component::{
    RemoteDemonstrations, RemoteEncoder, RemoteEvaluator, RemoteJudge, RemoteObjective, RemoteObserver,
    RemotePolicy, RemoteRetrospector, RemoteRows,
};
pub use error::{SessionError, SessionErrorKind};
pub use exchange::{CallFiles, SharedFolder, remove_exchange_folders};
pub use limits::Limits;
pub use message::{Answer, Call, Configure, Declared, FromPlugin, HostRequest, ToPlugin, Told, VERSION};
pub use plugin::{KINDS, RemotePlugin};
pub use program::Program;
pub use session::{Session, hello};
