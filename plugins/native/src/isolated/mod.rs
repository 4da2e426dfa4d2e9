//! `isolation = "process"`: a library in a process of its own, by the protocol of `isr-protocol`.
//!
//! The process is this program again, as `isr plugins host FILE`, which calls [`serve`](crate::serve). The
//! protocol has judges, retrospectors and objectives; encoders and policies cannot be isolated.

mod case;
mod pipe;
mod program;
mod serve;

pub(crate) use program::program;
pub use program::use_host;
pub use serve::serve;
