//! Results on stdout.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::{Context, Result};

/// Writes a result. A reader that has gone away, as `head` does, is an error that nobody is told of.
pub(super) fn print(text: impl Display) -> Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{text}").and_then(|()| stdout.flush()).context("cannot write to stdout")
}

/// Writes a result and ends the line.
pub(super) fn print_line(text: impl Display) -> Result<()> {
    print(format_args!("{text}\n"))
}
