//! Preference objectives: functions from log-probs to a loss and its exact gradient, without tensors.
//!
//! | `type` | loss | file |
//! |---|---|---|
//! | `dpo`, `robust`, `exo_pair`, `sigmoid_norm`, `discopop` | logistic losses of the score margin | `src/dpo.rs` |
//! | `hinge`, `ipo` | hinge and squared losses of the score margin | `src/margin.rs` |
//! | `nca_pair`, `bco_pair`, `sppo_hard`, `apo_zero`, `apo_down`, `anchor` | losses of each answer's own reward | `src/absolute.rs` |
//! | `rdpo`, `rpo`, `dpop` | DPO with an additional term | `src/regularised.rs` |
//! | `d2po` | DPO with temporal decay of token weights | `src/decay.rs` |
//! | `mdpo`, `copo` | losses with a corrupted video | `src/conditional.rs` |
//! | `kto` | each answer's reward against a KL estimate | `src/kto.rs` |
//! | `cpo`, `simpo`, `orpo` | reference-free losses | `src/cpo.rs` |
//! | `aot`, `aot_unpaired` | optimal transport between the rewards of a batch | `src/transport.rs` |
//! | `sft` | negative log-likelihood of the chosen answer | `src/sft.rs` |
//! | `mix` | weighted sums of any of them | `src/mix.rs` |
//!
//! `docs/objectives.md` has all formulas.
//!
//! # Adding an objective
//! A loss of one pair is a documented list of settings and one function on dual numbers, declared with
//! `pair_loss!` (`src/declare.rs`). From another crate, implement [`PairLoss`] for a config and build a
//! [`PairObjective`] from it. Objectives that are no mean of pair losses implement
//! [`PreferenceObjective`](isr_api::PreferenceObjective) directly, as `src/transport.rs` does.
//! `src/batch.rs` checks batches and averages metrics; `src/numerics.rs` has functions that do not overflow.
//! `tests/objectives/contract.rs` tests every registered objective (finite differences, splitting of batches,
//! extreme log-ratios); `tests/golden/` has values and gradients of the reference implementations.

mod absolute;
mod batch;
mod bounds;
mod conditional;
mod cpo;
mod decay;
mod declare;
mod divergence;
mod dpo;
mod error;
mod kto;
mod margin;
mod mix;
mod numerics;
mod pair_batch;
mod pair_loss;
mod regularised;
mod sft;
mod spec;
mod transport;

pub use absolute::{
    AnchorConfig, ApoDownConfig, ApoZeroConfig, BcoPairConfig, NcaPairConfig, SppoHardConfig,
};
pub use conditional::{CopoConfig, MdpoConfig};
pub use cpo::{CpoConfig, CpoLoss, OrpoConfig, SimpoConfig};
pub use decay::D2poConfig;
pub use divergence::Divergence;
pub use dpo::{DiscopopConfig, DpoConfig, ExoPairConfig, RobustConfig, SigmoidNormConfig};
pub use error::ObjectiveError;
pub use kto::{KtoConfig, KtoLoss};
pub use margin::{HingeConfig, IpoConfig};
pub use mix::{MixConfig, MixPart};
// Re-exported so that losses of other crates use the same version.
pub use num_dual::{Dual64, DualNum};
pub use pair_loss::{Completion, Pair, PairLoss, PairObjective};
pub use regularised::{DpopConfig, RdpoConfig, RpoConfig};
pub use sft::{Sft, SftConfig};
pub use spec::LossSpec;
pub use transport::{AotConfig, AotUnpairedConfig};
