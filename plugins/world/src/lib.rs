//! A miniature video world in which truth is exact.
//!
//! Whether a self-judge sees what it judges cannot be told from preferences that other models made. Here
//! it can: clips are drawn from facts, every sentence about them is true or false, and the same sentence
//! form serves descriptions, answers and a judge's context. So accuracy, hallucination and the judge's
//! own accuracy are counted, not estimated, on two cores in minutes, through the same video files,
//! prompts and config as a run on real data.
//!
//! # What a clip is
//! One to three objects of distinct [`Shape`]s, each of a [`Colour`] and a [`Motion`], before a
//! [`Background`]; all values uniform and independent, so that language alone predicts nothing. Size,
//! brightness, place and pixel noise vary and cannot be asked about. A clip is a function of (seed,
//! [`Split`], index); training, evaluation and warm-start clips come from separate streams. It is
//! rendered to a real H.264 `.mp4`, byte for byte the same from the same ffmpeg.
//!
//! # What is said
//! A [`Claim`] is `subject verb value.`: "bar is red.", "bar moves left.", "count is two.", "background
//! is striped.". Every word is lower-case and one word long, and every claim has four tokens, so length
//! is the number of claims and carries no truth. [`Reading`] parses any text into claims, each counted
//! once, and sentences that are none. [`WorldEvaluator`] makes the metrics of that.
//!
//! # What is built in, and what is not
//! The warm start ([`DemonstrationConfig`]) has faults on purpose. Whoever reports what a loop does must
//! subtract what was put in:
//!
//! | built in by demonstrations | default |
//! |---|---|
//! | wrong answers, uniformly wrong | 28% of answers to a question on one topic |
//! | prejudice: the colour of crosses and rings, the motion of bars and triangles are answered with a stereotype | 55% on those topics, so greedy decoding is wrong there |
//! | verbosity: further claims that nobody asked for | each with probability 0.5, at most 3 |
//! | hallucination: further claims that are false, half of them on absent objects | 60% |
//! | noisy, incomplete descriptions | 10% of claims false, 5% left out |
//! | noisy contexts in judging | 15% of claims false, 5% left out |
//! | an annotator who likes length | 20% of comparisons go to the longer answer |
//! | an annotator who slips | 5% of the others |
//!
//! Descriptions are noisy and not prejudiced: on the stereotyped topics a describer knows more than an
//! answerer says, which is what a judge with context can make use of.
//!
//! Not built in: that a judge without context is worse, or follows length more. The annotator's rule
//! is one for all ways of judging, and in its pairs truth is as often in the shorter answer as in the
//! longer, and in one value as in another. (One text cue remains: an answer that names more objects than
//! any clip has must be wrong somewhere.) Whether the length bias grows over iterations, answers run on,
//! or contexts improve, is left to the loop.
//!
//! "describe the video." is both the retrospector's prompt and one of the questions, so preference
//! training on that question also trains the describer.
//!
//! # Components
//! Data `world` ([`WorldConfig`]), evaluator `world` ([`WorldEvaluatorConfig`]), demonstrations `world`
//! ([`WorldDemonstrationsConfig`]), judge `reference` ([`ReferenceJudgeConfig`], an oracle).

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

mod attributes;
mod claim;
mod clip;
mod config;
mod demonstration;
mod encode;
mod error;
mod evaluator;
mod facts;
mod mistakes;
mod question;
mod raster;
mod reading;
mod record;
mod reference;
mod reference_retrospector;
mod samples;
mod source;
mod store;

pub use attributes::{Background, Colour, Count, Motion, Shape};
pub use claim::{Claim, Topic, text};
pub use clip::{Clip, Placement, Split, half_size};
pub use config::WorldConfig;
pub use demonstration::{
    DemonstrationConfig, Demonstrator, JUDGE_TEMPLATE, Kind, KindWeights, RETROSPECT_TEMPLATE,
    WorldDemonstrationsConfig,
};
pub use error::WorldError;
pub use evaluator::{WorldEvaluator, WorldEvaluatorConfig};
pub use facts::{Facts, Object};
pub use mistakes::stereotype;
pub use question::{Question, Truth};
pub use raster::render;
pub use reading::Reading;
pub use reference::ReferenceJudgeConfig;
pub use reference_retrospector::ReferenceRetrospectorConfig;
pub use source::World;
