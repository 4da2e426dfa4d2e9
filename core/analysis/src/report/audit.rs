//! Table of the judges' audit.

use crate::audit::{Agreement, JudgeAudit};
use crate::report::format::{Unit, count, number};
use crate::report::run::Run;
use crate::report::table::{Table, with_error};

const CAPTION: &str = "Judge audit. Kappa is Cohen's, with its 95% interval: agreement beyond that of two judges \
                       who choose each place as often, independently. Slope: log-odds for a word more, with its \
                       standard error.";

/// A column's name, and its cell of a row.
type Column = (&'static str, fn(&JudgeAudit) -> Option<String>);

const COLUMNS: [Column; 12] = [
    ("judge", |judge| Some(format!("{}{}", judge.judge, if judge.oracle { " (oracle)" } else { "" }))),
    ("verdicts", |judge| Some(count(judge.verdicts))),
    ("ties", |judge| Some(count(judge.ties))),
    ("failed", |judge| Some(count(judge.failures.count))),
    ("kappa with the facts", |judge| kappa(judge.truth.as_ref())),
    ("kappa with the run's judge", |judge| kappa(judge.run_judge.as_ref())),
    ("flips", |judge| {
        let with = judge.run_judge.as_ref()?;
        Some(with_error(Unit::Rate, Some(1.0 - with.agree?), with.n))
    }),
    ("kappa with people", |judge| kappa(judge.people.as_ref())),
    ("votes for the answer shown first", |judge| {
        Some(with_error(Unit::Rate, Some(judge.position.first_shown?), judge.position.votes))
    }),
    ("same in both orders", |judge| {
        Some(with_error(Unit::Rate, Some(judge.position.consistent?), judge.position.both_orders))
    }),
    ("more tokens preferred", |judge| {
        Some(with_error(Unit::Rate, Some(judge.length.longer_preferred?), judge.length.unequal))
    }),
    ("slope", |judge| {
        let slope = judge.length.slope?;
        Some(format!("{} ± {}", number(slope.per_word), number(slope.error)))
    }),
];

/// One row per iteration and judge. Empty columns are left out.
pub(crate) fn table(run: &Run) -> Table {
    let judges = &run.judges;
    let filled = COLUMNS.iter().filter(|(_, cell)| judges.iter().any(|judge| cell(judge).is_some()));
    let columns: Vec<&Column> = filled.collect();
    let head = std::iter::once("iteration").chain(columns.iter().map(|(name, _)| *name));
    let mut table = Table::new(CAPTION, head);
    for judge in judges {
        let cell = |(_, cell): &&Column| cell(judge).unwrap_or_else(|| Unit::Number.format_option(None));
        table
            .rows
            .push(std::iter::once(judge.iteration.to_string()).chain(columns.iter().map(cell)).collect());
    }
    table
}

fn kappa(agreement: Option<&Agreement>) -> Option<String> {
    let Agreement { n, kappa, interval, .. } = agreement?;
    let figure = |value: f64| format!("{value:.2}").replace('-', "−");
    let interval =
        interval.map_or_else(String::new, |[low, high]| format!(" [{}, {}]", figure(low), figure(high)));
    kappa.map(|kappa| format!("{}{interval} (n = {})", figure(kappa), count(*n)))
}
