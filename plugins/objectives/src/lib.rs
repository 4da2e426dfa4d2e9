//! Preference objectives: log-probs in, loss and exact gradient out, no tensors.
//!
//! | `type` | what | file |
//! |---|---|---|
//! | `dpo` | direct preference optimisation, with label smoothing (cDPO) | `src/dpo.rs` |
//! | `sft` | negative log-likelihood of the chosen answer | `src/sft.rs` |
//!
//! # Adding one
//! One file an objective: a documented config struct, the behaviour, one
//! [`register!`](isr_core::register) line, and a line in the table above. `src/pairs.rs` checks
//! what a trainer hands over and averages metrics; `src/stable.rs` has the functions that must
//! not overflow. `tests/objectives/contract.rs` holds what every objective must pass (finite
//! differences, splitting, extremes); `tests/golden/` holds the reference implementation's figures and
//! the script that made them.

mod dpo;
mod error;
mod pairs;
mod sft;
mod stable;

pub use dpo::{Dpo, DpoConfig};
pub use error::ObjectiveError;
pub use sft::{Sft, SftConfig};
