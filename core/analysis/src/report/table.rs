//! Tables, and how a rate is written in a cell.

use serde::Serialize;

use crate::report::format::{Unit, binomial_error, count};

/// A table of text cells. The first column is the row header.
#[derive(Serialize, Default)]
pub struct Table {
    /// Caption.
    pub caption: String,
    /// Column headers.
    pub head: Vec<String>,
    /// Rows, each as long as `head`.
    pub rows: Vec<Vec<String>>,
    /// Index of the first column that is left-aligned text; `None` where all columns but the first are figures.
    pub prose: Option<usize>,
}

impl Table {
    /// A table without rows.
    pub fn new(caption: impl Into<String>, head: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let head = head.into_iter().map(Into::into).collect();
        Self { caption: caption.into(), head, ..Self::default() }
    }
}

/// Formats a rate with its binomial standard error over `n` cases, and any other figure alone.
pub(crate) fn with_error(unit: Unit, value: Option<f64>, n: usize) -> String {
    let text = unit.format_option(value);
    let error = value.filter(|_| unit.is_rate()).and_then(|value| binomial_error(value, n));
    error.map_or(text.clone(), |error| format!("{text} ± {}", unit.format_spread(error)))
}

/// Formats the sample sizes of a set of figures: `512`, or `480 to 512`.
pub(crate) fn range_of_n(ns: impl Iterator<Item = usize>) -> Option<String> {
    let (low, high) = ns.fold((usize::MAX, 0), |(low, high), n| (low.min(n), high.max(n)));
    match low {
        usize::MAX => None,
        _ if low == high => Some(count(low)),
        _ => Some(format!("{} to {}", count(low), count(high))),
    }
}
