//! Preference objectives: log-probs in, loss and exact gradient out, no tensors.
//!
//! | `type` | what | file |
//! |---|---|---|
//! | `dpo`, `robust`, `exo_pair`, `sigmoid_norm`, `discopop` | the margin through the logistic function | `src/dpo.rs` |
//! | `hinge`, `ipo` | hinge and squared losses of the margin | `src/margin.rs` |
//! | `nca_pair`, `bco_pair`, `sppo_hard`, `apo_zero`, `apo_down`, `anchor` | each answer's own reward | `src/absolute.rs` |
//! | `rdpo`, `rpo`, `dpop` | DPO with one more term | `src/regularised.rs` |
//! | `d2po` | DPO with tokens that count less and less | `src/decay.rs` |
//! | `mdpo`, `copo` | with a corrupted video | `src/conditional.rs` |
//! | `kto` | each answer against the divergence from the reference | `src/kto.rs` |
//! | `cpo`, `simpo`, `orpo` | without a reference | `src/cpo.rs` |
//! | `aot`, `aot_unpaired` | optimal transport within a batch | `src/transport.rs` |
//! | `sft` | negative log-likelihood of the chosen answer | `src/sft.rs` |
//! | `mix` | weighted sums of any of them | `src/mix.rs` |
//!
//! # Adding one
//! A loss of one pair is a documented list of settings and one function on dual numbers, in one
//! `pair_loss!`: see `src/declare.rs`. From another crate, implement [`PairLoss`] for a config and build a
//! [`PairObjective`] of it. What is no loss of one pair implements
//! [`PreferenceObjective`](isr_api::PreferenceObjective) itself, as `src/transport.rs` does.
//! `src/pairs.rs` checks what a trainer hands over and averages metrics; `src/stable.rs` has the
//! functions that must not overflow. `tests/objectives/contract.rs` holds what every objective must pass
//! (finite differences, splitting, extremes); `tests/golden/` holds the reference implementation's
//! figures. `docs/objectives.md` has all formulas.

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
// Own losses are written with the same version of them.
pub use num_dual::{Dual64, DualNum};
pub use pair_loss::{Completion, Pair, PairLoss, PairObjective};
pub use regularised::{DpopConfig, RdpoConfig, RpoConfig};
pub use sft::{Sft, SftConfig};
pub use spec::LossSpec;
pub use transport::{AotConfig, AotUnpairedConfig};
