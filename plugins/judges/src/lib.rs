//! Judges, retrospectors and selections.
//!
//! | component | what it does | where |
//! |---|---|---|
//! | judge `self` | the policy scores the two choices, with its description in view: `p(y1 > y2 \| V, x, c_t)` | `self_judge.rs` |
//! | judge `random`, `length`, `rule` | ask no model | `baseline/` |
//! | judge `verdict`, `pointwise`, `rubric` | ask the policy and read its reply | `ask/` |
//! | judge `http` | asks a model behind an OpenAI-compatible server | `http/` |
//! | judge `human` | takes verdicts from annotations | `human.rs` |
//! | judge `both_orders`, `majority`, `ensemble`, `cascade`, `length_debiased`, `abstain`, `veto` | combine other judges | `combine/` |
//! | retrospector `self` | the policy describes the video with its previous description in view: `c_t ~ pi_t(V, c_{t-1})` | `retrospect/` |
//! | retrospector `fixed` | a control: one text for every video | `retrospect/` |
//! | selection `consistent` | keeps pairs on which both presentation orders agree | `selection/` |
//! | selection `top_k`, `balanced_lengths`, `deduplicate`, `chain` | choose among judged pairs | `selection/` |
//!
//! # Verdicts
//! - A probability of exactly one half takes no side; selections drop it as `no preference`. Votes agree
//!   where no two of them take opposite sides.
//! - A reply that cannot be read is [`ComponentError::BadInput`](isr_api::ComponentError::BadInput), never
//!   one half.
//! - Random draws are keyed by the responses, not by their positions: the same case with the responses swapped
//!   gets the mirrored verdict, except from a judge that shows one order only.
//!
//! # The method of the paper
//! A model that judges its own answers leans on language: it prefers what sounds likely, and what is
//! long. In ISR-DPO (arXiv 2406.11280) a description grounds the judgment in the video, and writing it with its
//! predecessor in view lets it be corrected from iteration to iteration instead of starting anew.
//!
//! The paper gives the conditioning of `c_t` and of the verdict, and that one and the same model plays
//! all parts. It does not publish its prompts, how a verdict is read from the model, whether both orders
//! are shown, how contexts are sampled, or what `c_0` is. These are config values here, with our defaults:
//! natural English prompts, probabilities of the two choices instead of a sampled reply, both orders, greedy
//! descriptions, and no `c_0` (the first description is written from the video alone).
//!
//! | ablation | setting |
//! |---|---|
//! | no retrospection | `retrospector.use_previous = false` |
//! | self-rewarding: judge without context | `judge.use_context = false` |
//! | judge reads the description only | `judge.video = false` |
//! | control: the description is another video's | `loop.mismatched_contexts = true` |
//! | control: the description says nothing | `retrospector.type = "fixed"` |
//! | position bias left in | `judge.orders = "given"` |
//!
//! Prompts are Jinja templates; `template/` says how they are read.

mod agreement;
mod ask;
mod baseline;
mod bounds;
mod combine;
mod comparison_prompt;
mod error;
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
pub use http::{BudgetConfig, FramesConfig, HttpJudgeConfig, PricesConfig};
pub use human::{HumanJudgeConfig, Missing};
pub use retrospect::{
    FixedRetrospector, FixedRetrospectorConfig, SelfRetrospector, SelfRetrospectorConfig,
};
pub use selection::{
    BalancedLengthsConfig, ChainConfig, ConsistentSelection, ConsistentSelectionConfig, DeduplicateConfig,
    TopKConfig,
};
pub use self_judge::{SelfJudge, SelfJudgeConfig};
pub use template::TemplateError;
