//! The loader of native libraries: plugins in Rust, built with `isr-plugin`.
//!
//! A library runs in this process: a call costs microseconds, and nothing stops one that never returns or
//! that aborts. `isolation = "process"` gives it a process of its own.
//!
//! | part | where |
//! |---|---|
//! | the loader, and what it says of a file that is no plugin | `src/loader.rs` |
//! | building components from a library | `src/library.rs` |
//! | a call on a thread where it may block | `src/runner.rs` |
//! | what a plugin asks, answered | `src/answers.rs` |
//! | calls that are silent for too long, noticed | `src/watch.rs` |
//! | the five traits on top of calls | `src/component/` |
//! | a library in a process of its own, both sides | `src/isolated/` |
//!
//! A library is never unloaded: threads that it started may be anywhere in its code.

mod answers;
mod component;
mod isolated;
mod library;
mod loader;
mod runner;
mod watch;

pub use isolated::{serve, use_host};
pub use loader::NativeLoader;
