//! `isr report`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use isr_dpo::write_report;

use super::output::print_line;
use super::session::Session;

/// Write a report of one run, or of several side by side
///
/// The report is one HTML file that fetches nothing. It can be made of a run that is under way.
#[derive(Args)]
pub(super) struct ReportArgs {
    /// Run directories
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The file to write [default: RUN/report.html, and of several runs, report.html]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl ReportArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let out = self.out.clone().unwrap_or_else(|| match self.runs.as_slice() {
            [run] => run.join("report.html"),
            _ => PathBuf::from("report.html"),
        });
        session.block_on(write_report(&self.runs, &out))?;
        print_line(out.display())?;
        Ok(())
    }
}
