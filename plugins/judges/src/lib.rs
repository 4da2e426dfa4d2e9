//! Judges, retrospectors and selections.
//!
//! | component | function | module |
//! |---|---|---|
//! | judge `self` | scores two choices under the policy, given its description of the video: `p(y1 > y2 \| V, x, c_t)` | `self_judge.rs` |
//! | judge `random`, `length`, `rule` | controls and hand-written rules, without a model | `baseline/` |
//! | judge `verdict`, `pointwise`, `rubric` | sample a reply from the policy and parse it | `ask/` |
//! | judge `http` | samples a reply from a model behind an OpenAI-compatible server | `http/` |
//! | judge `human` | reads verdicts from annotations | `human.rs` |
//! | judge `both_orders`, `majority`, `ensemble`, `cascade`, `length_debiased`, `abstain`, `veto` | combine other judges | `combine/` |
//! | retrospector `self` | the policy describes the video given its previous description: `c_t ~ pi_t(V, c_{t-1})` | `retrospect/` |
//! | retrospector `fixed` | a control: one text for every video | `retrospect/` |
//! | selection `consistent` | keeps pairs on which both presentation orders agree | `selection/` |
//! | selection `top_k`, `balanced_lengths`, `deduplicate`, `chain` | filter judged pairs | `selection/` |
//!
//! `docs/judges.md` lists all settings. Shared parts: `comparison_prompt.rs` (the prompt over two answers),
//! `template/` (Jinja prompt templates), `prompt.rs` (messages), `bounds.rs` (ranges of settings).
//!
//! # Verdicts
//! - A probability of one half is a tie ([`isr_api::Choice`]); selections drop it as `no preference`. Votes are
//!   consistent if no two of them prefer different answers; a tie contradicts neither.
//! - A reply that cannot be parsed is [`ComponentError::BadInput`](isr_api::ComponentError::BadInput), never
//!   one half.
//! - Random draws are keyed by the responses, not by their positions: the same case with the responses swapped
//!   gets the mirrored verdict, except from a judge with a single presentation order.
//!
//! # The method of the paper
//! A model that judges its own answers relies on language priors: it prefers what sounds likely, and what is
//! long. In ISR-DPO (arXiv 2406.11280) a description grounds the judgment in the video, and each iteration
//! refines the description of the one before.
//!
//! The paper gives the conditioning of `c_t` and of the verdict, and uses one model for all roles. It does not
//! publish its prompts, how a verdict is read from the model, whether both presentation orders are used, how
//! contexts are sampled, or what `c_0` is. These are settings here. The defaults are natural English prompts,
//! probabilities of the two choices instead of a sampled reply, both orders, greedy descriptions, and no `c_0`
//! (the first description is written from the video alone).
//!
//! | ablation | setting |
//! |---|---|
//! | without retrospection | `retrospector.use_previous = false` |
//! | control: the description before is another video's | `loop.previous_context = "other"` |
//! | self-rewarding: judge without context | `judge.use_context = false` |
//! | judge reads the description only | `judge.video = false` |
//! | control: the description is another video's | `loop.mismatched_contexts = true` |
//! | control: the description is uninformative | `retrospector.type = "fixed"` |
//! | uncorrected position bias | `judge.orders = "given"` |

mod ask;
mod baseline;
mod bounds;
mod combine;
mod comparison_prompt;
mod error;
#[cfg(feature = "http")]
mod http;
mod human;
mod odds;
mod prompt;
mod retrospect;
mod sampling;
mod selection;
mod self_judge;
mod template;

pub use ask::{Criterion, PointwiseConfig, ReplyConfig, RubricConfig, Take, VerdictConfig};
pub use baseline::{Distribution, LengthJudgeConfig, Preferred, RandomJudgeConfig, Rule, RuleJudgeConfig};
pub use combine::{
    AbstainConfig, BothOrdersConfig, CascadeConfig, EnsembleConfig, EnsembleMember, LengthDebiasedConfig,
    MajorityConfig, VetoConfig,
};
pub use error::JudgeError;
#[cfg(feature = "http")]
pub use http::HttpJudgeConfig;
pub use human::{HumanJudgeConfig, Missing};
#[cfg(feature = "http")]
pub use isr_chat::{BudgetConfig, FramesConfig, MaxTokensKey, Omit, PricesConfig, Temperature};
pub use retrospect::{
    FixedRetrospector, FixedRetrospectorConfig, SelfRetrospector, SelfRetrospectorConfig,
};
pub use selection::{
    BalancedLengthsConfig, ChainConfig, ConsistentSelection, ConsistentSelectionConfig, DeduplicateConfig,
    LengthDebiasedSelectionConfig, TopKConfig,
};
pub use self_judge::{SelfJudge, SelfJudgeConfig};
pub use template::TemplateError;
