//! What stands in messages: JSON forms of cases, questions and values. Where `isr-core` has a form of its
//! own (responses, contexts, sampling), it is used.

mod ask;
mod case;
mod objective;
mod verdict;

pub(crate) use ask::{Asked, answer};
pub(crate) use case::{judge_case, retrospection_case};
pub(crate) use objective::{batch, requirements, value};
pub(crate) use verdict::verdict;
