//! Judges composed of other judges.

mod abstain;
mod both_orders;
mod cascade;
mod ensemble;
mod length_debiased;
mod majority;
mod veto;

pub use abstain::AbstainConfig;
pub use both_orders::BothOrdersConfig;
pub use cascade::CascadeConfig;
pub use ensemble::{EnsembleConfig, EnsembleMember};
pub use length_debiased::LengthDebiasedConfig;
pub use majority::MajorityConfig;
pub use veto::VetoConfig;

use isr_api::{JudgeCase, Streams, Verdict, Vote};

/// The case with a seed derived for one of several calls.
fn reseeded(case: &JudgeCase, combinator: &str, call: usize) -> JudgeCase {
    let mut case = case.clone();
    case.seed = Streams::new(case.seed).seed(0, combinator, &call.to_string());
    case
}

/// Tie that is marked inconsistent, for a case that no selection may turn into a pair.
fn undecided(votes: Vec<Vote>) -> Verdict {
    Verdict { p_first: 0.5, votes, consistent: false }
}
