//! `isolation = "process"`: a library in a process of its own, by the protocol of `isr-protocol`.
//!
//! The process is this program again, as `isr plugins host FILE`, which calls [`serve`](crate::serve). A policy takes
//! whole training steps, and asks isr for the objective's values.

mod case;
mod models;
mod objective;
mod pipe;
mod program;
mod serve;

pub(crate) use program::program;
pub use program::use_host;
pub use serve::serve;
