//! Tables, and how a rate is written in a cell.

use serde::Serialize;

use crate::report::format::{MISSING, Unit, binomial_error, count};

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

impl Table {
    /// Leaves out columns without a value in any row.
    #[must_use]
    pub fn without_empty_columns(mut self) -> Self {
        let empty = |at: usize| {
            at > 0
                && !self.rows.is_empty()
                && self
                    .rows
                    .iter()
                    .all(|row| row.get(at).is_none_or(|cell| cell == MISSING || cell.is_empty()))
        };
        let kept: Vec<usize> = (0..self.head.len()).filter(|&at| !empty(at)).collect();
        let left_out = |before: usize| (0..before).filter(|at| !kept.contains(at)).count();
        self.prose = self.prose.map(|at| at - left_out(at));
        for row in std::iter::once(&mut self.head).chain(&mut self.rows) {
            *row = kept.iter().filter_map(|&at| row.get(at).cloned()).collect();
        }
        self
    }

    /// Splits a table into tables of at most `most` columns, each with the first column, so that they fit a page. Tables
    /// with text are not split.
    pub fn split(self, most: usize) -> Vec<Self> {
        if self.head.len() <= most || self.prose.is_some() {
            return vec![self];
        }
        let pieces = (self.head.len() - 1).div_ceil(most - 1);
        let width = (self.head.len() - 1).div_ceil(pieces);
        let piece = |at: usize| {
            let columns = |row: &Vec<String>| {
                let further = row.iter().skip(1 + at * width).take(width);
                row.first().into_iter().chain(further).cloned().collect::<Vec<_>>()
            };
            let caption =
                if at == 0 { self.caption.clone() } else { format!("{} (continued)", self.caption) };
            Self {
                caption,
                head: columns(&self.head),
                rows: self.rows.iter().map(columns).collect(),
                prose: None,
            }
        };
        (0..pieces).map(piece).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_tables_are_split_and_empty_columns_left_out() {
        let mut table = Table::new("T", ["arm", "a", "b", "c", "d", "e"]);
        table.rows.push(["x", "1", MISSING, "3", "4", "5"].map(String::from).to_vec());
        let table = table.without_empty_columns();
        assert_eq!(table.head, ["arm", "a", "c", "d", "e"]);
        let pieces = table.split(3);
        assert_eq!(
            pieces.iter().map(|piece| piece.head.join(" ")).collect::<Vec<_>>(),
            ["arm a c", "arm d e"]
        );
        assert_eq!(
            (pieces[1].caption.as_str(), pieces[1].rows[0].join(" ")),
            ("T (continued)", "x 4 5".to_owned())
        );
    }
}
