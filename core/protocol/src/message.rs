//! The messages: one JSON object a line, told apart by `type`.

use isr_api::Kind;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// What isr writes to a plugin's standard input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ToPlugin {
    /// The first line.
    Hello {
        /// Versions of the protocol that isr speaks.
        protocols: Vec<u32>,
        /// Name and version of the program.
        host: String,
    },
    /// Calls that wait together; each is answered on its own, in any order.
    Calls {
        /// At least one.
        calls: Vec<Call>,
    },
    /// The answer to what the plugin asked.
    Answer {
        /// The question's id.
        id: u64,
        /// The answer.
        #[serde(flatten)]
        answer: Answer,
    },
    /// Nobody waits for this call any more. It is answered all the same, with whatever.
    Cancel {
        /// The call's id.
        id: u64,
    },
}

/// One call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Unique in the life of the process.
    pub id: u64,
    /// `configure`, `judge`, `describe`, `requirements` or `evaluate`.
    pub method: String,
    /// What the method takes.
    pub params: Value,
}

/// What a plugin writes to its standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FromPlugin {
    /// The answer to the hello.
    Hello {
        /// The version that it speaks from now on, one of those offered.
        protocol: u32,
        /// What it is written with, for messages.
        #[serde(default)]
        sdk: String,
        /// What it can be configured as.
        components: Vec<Declared>,
    },
    /// A call is done.
    Result {
        /// The call's id.
        id: u64,
        /// What the method returns.
        #[serde(default)]
        value: Value,
    },
    /// A call failed.
    Error {
        /// The call's id.
        id: u64,
        /// `bad_input` where this case is at fault, else `failed`.
        code: String,
        /// What went wrong.
        message: String,
    },
    /// The plugin wants something of isr while it works on a call.
    Ask(Ask),
    /// A line for the log.
    Log {
        /// `error`, `warn`, `info` or `debug`.
        level: String,
        /// The line.
        message: String,
    },
}

/// A component that a plugin declares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declared {
    /// `judge`, `retrospector` or `objective`.
    pub kind: Kind,
    /// The name that a config gives as `type`.
    pub name: String,
    /// Version of the plugin.
    #[serde(default)]
    pub version: String,
    /// What it does; the first sentence stands in lists.
    pub help: String,
    /// JSON schema of its settings, an object; none for a component without settings.
    #[serde(default)]
    pub schema: Option<Value>,
    /// TOML body of a valid section, without the `type` line.
    #[serde(default)]
    pub example: String,
    /// How many messages of calls it works on at a time. Default 1.
    #[serde(default = "one")]
    pub workers: usize,
}

fn one() -> usize {
    1
}

/// A question of the plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Unique in the life of the process.
    pub id: u64,
    /// The open call that it belongs to.
    pub call: u64,
    /// `generate`, `score` or `frame`.
    pub method: String,
    /// What the method takes.
    pub params: Value,
}

/// The answer to a question: a value or an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// What was asked for.
    Value(Value),
    /// Why it cannot be had.
    Error {
        /// `bad_input` or `failed`.
        code: String,
        /// What went wrong.
        message: String,
    },
}
