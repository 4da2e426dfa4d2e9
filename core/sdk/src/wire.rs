//! Messages with blobs, for the crate that loads libraries.

pub use isr_api::messages::{QuestionLimits, RequirementsMessage, VerdictMessage};

pub use crate::batching::{TOGETHER, answers_message, questions};
pub use crate::calls::{
    batch, describe_message, generate_message, generate_request, judge_message, score_message,
    score_request, train_message, value_message,
};
pub use crate::error::RemoteError;
pub use crate::host_proxies::parse_fingerprint;
pub use crate::message::{Blob, Message};
pub use crate::messages::*;
pub use crate::pack::{Packing, features};
