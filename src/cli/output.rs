//! Results on stdout.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::{Context, Result};

use super::terminal::printable;

/// Writes a result, without control characters that a terminal would obey. A reader that has gone away, as `head` does, is an error that nobody is told of.
pub(super) fn print(text: impl Display) -> Result<()> {
    let text = text.to_string();
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(printable(&text).as_bytes())
        .and_then(|()| stdout.flush())
        .context("cannot write to stdout")
}

/// Writes a result and ends the line.
pub(super) fn print_line(text: impl Display) -> Result<()> {
    print(format_args!("{text}\n"))
}

/// A table: columns flush right, two spaces apart.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
