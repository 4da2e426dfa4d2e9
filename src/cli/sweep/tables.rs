//! `isr sweep tables`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use isr_analysis::text_table::TableForm;
use isr_sweep::{Iterations, Part, TableOptions, csv, of_some_metrics, paper_tables, read_results};

use super::super::output::print;
use super::report;

/// Print tables of a sweep for a paper or a guide, from its sweep.json alone
///
/// Means with 95% intervals by arm, differences from the baseline, and claims with their verdicts. The same sweep.json gives
/// the same bytes.
#[derive(Args)]
pub(super) struct TablesArgs {
    /// A sweep.json, or the folder of a sweep
    results: PathBuf,
    /// The form of the tables
    #[arg(short, long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
    /// A table to print; may be given again [default: all that the sweep has; of csv, metrics]
    #[arg(short, long, value_enum)]
    part: Vec<PartName>,
    /// A metric, as `greedy.accuracy`; may be given again [default: those of the page's first table]
    #[arg(short, long, value_name = "NAME")]
    metric: Vec<String>,
    /// An arm; may be given again [default: all]
    #[arg(short, long, value_name = "NAME")]
    arm: Vec<String>,
    /// An iteration; 0 is the starting model [default: the last of each arm]
    #[arg(long, value_name = "N", conflicts_with = "all_iterations")]
    iteration: Option<u32>,
    /// Every iteration
    #[arg(long)]
    all_iterations: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Markdown,
    /// With `booktabs`
    Latex,
    /// In full precision; one table
    Csv,
    /// A sweep.json of these metrics alone, with all iterations and claims, to keep beside a text
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum PartName {
    Metrics,
    Differences,
    Claims,
}

impl TablesArgs {
    pub(super) fn execute(&self) -> Result<()> {
        let results = read_results(&self.results).map_err(report)?;
        let parts = self.part.iter().map(|part| match part {
            PartName::Metrics => Part::Metrics,
            PartName::Differences => Part::Differences,
            PartName::Claims => Part::Claims,
        });
        let options = TableOptions {
            metrics: self.metric.clone(),
            iterations: match self.iteration {
                _ if self.all_iterations => Iterations::All,
                Some(iteration) => Iterations::Only(iteration),
                None => Iterations::Last,
            },
            parts: parts.collect(),
            arms: self.arm.clone(),
        };
        let text = match self.format {
            Format::Markdown => paper_tables(&results, &options, TableForm::Markdown),
            Format::Latex => paper_tables(&results, &options, TableForm::Latex),
            Format::Csv => csv(&results, &options, options.parts.first().copied().unwrap_or(Part::Metrics)),
            Format::Json if !self.part.is_empty() || !self.arm.is_empty() || self.iteration.is_some() => {
                bail!(
                    "a sweep.json has all parts, arms and iterations; leave --part, --arm and --iteration out"
                )
            }
            Format::Json => {
                let smaller = of_some_metrics(&results, &options).map_err(report)?;
                return print(format!("{}\n", serde_json::to_string(&smaller)?));
            }
        };
        print(text.map_err(report)?)
    }
}
