//! Messages and forms, for the crate that loads libraries.

pub use crate::asked::parse_fingerprint;
pub use crate::calls::{batch, value_message};
pub use crate::error::RemoteError;
pub use crate::form::*;
pub use crate::message::{Blob, Message};
pub use crate::pack::{Packing, features, prompt};
pub use crate::together::{TOGETHER, answers_message, questions};
