//! Analysis of run directories.
//!
//! | analysis | module |
//! |---|---|
//! | reliability of a run's judges, and judging its responses again: `isr audit` | [`audit`] |
//! | a self-contained HTML report of one or several runs: `isr report` | [`report`] |
//! | preference data in the formats of other trainers: `isr export` | [`export`] |
//! | 95% interval of a mean, over seeds | [`interval`] |
//! | mean over base models and seeds, its interval and p-value, Holm's correction | [`mean_effect`] |
//! | tables in Markdown and LaTeX | [`text_table`] |
//! | async entry points that take frames and facts from the run's own config | [`from_config`] |

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping"))]

pub mod audit;
pub mod export;
pub mod from_config;
pub mod interval;
pub mod mean_effect;
pub mod report;
pub mod text_table;
