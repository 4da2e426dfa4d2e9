//! The envelope of protocol version 1: one JSON object a line, distinguished by `type`. Parameters and values inside
//! are [`isr_api::messages`].

use isr_api::Kind;
use isr_api::messages::ComponentSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// What isr writes to a plugin's standard input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ToPlugin {
    /// Greeting, the first line.
    Hello {
        /// Versions of the protocol that isr speaks.
        protocols: Vec<u32>,
        /// Name and version of the program.
        host: String,
    },
    /// A batch of calls; each is answered on its own, in any order.
    Calls {
        /// At least one.
        calls: Vec<Call>,
    },
    /// Answer to a question of the plugin.
    Answer {
        /// The question's id.
        id: u64,
        /// The answer.
        #[serde(flatten)]
        answer: Answer,
    },
    /// Cancellation of a call. The plugin still answers it; the value is discarded.
    Cancel {
        /// The call's id.
        id: u64,
    },
}

/// One call of a component's method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Unique in the life of the process.
    pub id: u64,
    /// `configure`, or a method of the component's kind: `judge`, `describe`, `evaluate`, `answer`, `observe`, `rows`, ...
    pub method: String,
    /// Parameters, as [`isr_api::messages`] defines them.
    pub params: Value,
}

/// Parameters of `configure`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configure {
    /// The component that the process is to be.
    #[serde(flatten)]
    pub component: ComponentSpec,
    /// Path of the folder for arrays, where the component is a policy or an encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
}

/// What a plugin writes to its standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FromPlugin {
    /// Reply to the greeting.
    Hello {
        /// The version that it speaks from now on, one of those offered.
        protocol: u32,
        /// Name and version of its SDK, for error messages.
        #[serde(default)]
        sdk: String,
        /// Its components.
        components: Vec<Declared>,
    },
    /// Result of a call.
    Result {
        /// The call's id.
        id: u64,
        /// Return value, as [`isr_api::messages`] defines it.
        #[serde(default)]
        value: Value,
    },
    /// Error of a call.
    Error {
        /// The call's id.
        id: u64,
        /// `bad_input` where this case is at fault, else `failed`.
        code: String,
        /// What went wrong.
        message: String,
    },
    /// A question to isr during a call.
    Ask(HostRequest),
    /// Progress of a `generate` that is to stream.
    Progress {
        /// The call's id.
        id: u64,
        /// What there is so far.
        #[serde(flatten)]
        progress: Told,
    },
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
    /// `judge`, `retrospector`, `objective`, `evaluator`, `observer`, `data`, `preferences`, `demonstrations`, `policy` or
    /// `encoder`.
    pub kind: Kind,
    /// The name that a config gives as `type`.
    pub name: String,
    /// Version of the plugin.
    #[serde(default)]
    pub version: String,
    /// Help text; `isr plugins list` shows the first sentence.
    pub help: String,
    /// JSON schema of its settings, an object; none for a component without settings.
    #[serde(default)]
    pub schema: Option<Value>,
    /// TOML body of a valid section, without the `type` line.
    #[serde(default)]
    pub example: String,
    /// Number of [`ToPlugin::Calls`] messages that it works on concurrently. Default 1.
    #[serde(default = "one")]
    pub workers: usize,
    /// Optional capabilities, which a program that does not know them ignores: `costly` of an evaluator that asks a
    /// server or a model ([`Evaluator::is_costly`](isr_api::Evaluator::is_costly)).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

fn one() -> usize {
    1
}

/// A plugin's question: a request for the policy's answers or for a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostRequest {
    /// Unique in the life of the process.
    pub id: u64,
    /// The open call that it belongs to.
    pub call: u64,
    /// `generate`, `score` or `frame`; in a `train_step` `evaluate`.
    pub method: String,
    /// Parameters, as [`isr_api::messages`] defines them.
    pub params: Value,
}

/// Progress of a `generate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Told {
    /// The next piece of an answer.
    Text {
        /// Index of the answer, below the call's `n`.
        answer: usize,
        /// The piece.
        text: String,
    },
    /// The next piece of an answer's reasoning.
    Reasoning {
        /// Index of the answer, below the call's `n`.
        answer: usize,
        /// The piece.
        reasoning: String,
    },
    /// The prompt was tokenised.
    Prompt {
        /// Its length in tokens, those of videos included.
        prompt_tokens: usize,
    },
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
