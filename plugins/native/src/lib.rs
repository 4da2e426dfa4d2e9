//! The loader of native libraries: plugins in Rust, built with `isr-plugin`.
//!
//! A library runs in this process: a call costs microseconds, and nothing stops one that never returns or
//! that aborts. `isolation = "process"` gives it a process of its own.
//!
//! | part | where |
//! |---|---|
//! | the loader, and its check of a file | `src/loader.rs` |
//! | building components from a library | `src/library.rs` |
//! | blocking calls of a component | `src/runner.rs` |
//! | the host's side of a call: log, cancellation, the policy's answers | `src/answers.rs` |
//! | warnings about calls that exceed `call_s` | `src/watch.rs` |
//! | the five traits | `src/component/` |
//! | work that may hang | `src/timeout.rs` |
//! | a library in a process of its own, both sides | `src/isolated/` |
//!
//! A library is never unloaded: threads that it started may be anywhere in its code.

mod answers;
mod component;
mod isolated;
mod library;
mod loader;
mod runner;
mod timeout;
mod watch;

pub use isolated::{serve, use_host};
pub use loader::NativeLoader;
