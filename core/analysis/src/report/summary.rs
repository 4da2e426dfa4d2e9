//! Summary cards: starting model against final model.

use isr_api::records::{EvaluationRecord, evaluation_metrics};
use serde::Serialize;

use crate::report::format::{MISSING, Unit, binomial_error};
use crate::report::run::Run;
use crate::report::table::{Table, with_error};

/// Metric of the summary.
struct Figure {
    title: &'static str,
    metric: &'static str,
    unit: Unit,
    /// Direction: 1 if higher is better, -1 if lower is, 0 if neither.
    good: f64,
}

const FIGURES: [Figure; 3] = [
    Figure { title: "Accuracy", metric: "accuracy", unit: Unit::Rate, good: 1.0 },
    Figure { title: "Hallucination", metric: "hallucination", unit: Unit::Rate, good: -1.0 },
    Figure { title: "Response tokens", metric: "response_tokens", unit: Unit::Tokens, good: 0.0 },
];

/// One metric, greedy and sampled.
#[derive(Serialize)]
pub(crate) struct Card {
    title: &'static str,
    rows: Vec<CardRow>,
}

#[derive(Serialize)]
struct CardRow {
    name: &'static str,
    base: String,
    last: String,
    change: String,
    /// `better`, `worse`, or empty where the change is within its error, or neither.
    tone: &'static str,
}

/// Groups of an evaluation's metrics ([`evaluation_metrics`]).
const GROUPS: [&str; 2] = ["greedy", "sampled"];

/// The cards of one run: metrics that were measured.
pub(crate) fn cards(run: &Run) -> Vec<Card> {
    let card = |figure: &Figure| {
        let rows = GROUPS.map(|group| figure.row(group, run)).into_iter();
        let rows = rows.filter(|row| row.base != MISSING || row.last != MISSING).collect();
        Card { title: figure.title, rows }
    };
    FIGURES.iter().map(card).filter(|card| !card.rows.is_empty()).collect()
}

/// One row a run.
pub(crate) fn comparison(runs: &[Run]) -> Table {
    let mut head = vec!["run".to_owned(), "iterations".to_owned(), "n".to_owned()];
    for figure in &FIGURES {
        head.extend(GROUPS.map(|group| format!("{}, {group}", figure.title.to_lowercase())));
    }
    let mut table =
        Table::new("Starting model → last measured iteration, and the change. Held-out samples.", head);
    for run in runs {
        let n = run.last_evaluation().map(|(_, evaluation)| evaluation).or(run.base.as_ref());
        let n = n.map_or(MISSING.to_owned(), |evaluation| evaluation.samples.to_string());
        let mut row = vec![run.name.clone(), run.summaries.len().to_string(), n];
        for figure in &FIGURES {
            row.extend(GROUPS.map(|group| figure.row(group, run).in_words()));
        }
        table.rows.push(row);
    }
    table
}

impl Figure {
    fn row(&self, group: &'static str, run: &Run) -> CardRow {
        let metric = format!("{group}.{}", self.metric);
        let read = |evaluation: &EvaluationRecord| {
            let value = evaluation_metrics(evaluation).get(&metric).copied();
            let value = value.filter(|value| value.is_finite())?;
            Some((value, evaluation.samples))
        };
        let base = run.base.as_ref().and_then(read);
        let last = run.last_evaluation().and_then(|(_, evaluation)| read(evaluation));
        let text = |value: Option<(f64, usize)>| {
            with_error(self.unit, value.map(|(value, _)| value), value.map_or(0, |(_, n)| n))
        };
        let change = base.zip(last).map(|((base, _), (last, _))| last - base);
        CardRow {
            name: group,
            base: text(base),
            last: text(last),
            change: change.map_or(MISSING.to_owned(), |change| self.unit.format_change(change)),
            tone: base.zip(last).map_or("", |(base, last)| self.tone(base, last)),
        }
    }

    /// A verdict on a change only where it exceeds twice its standard error. The error is that of
    /// independent samples, which for answers to the same samples errs on the side of caution.
    fn tone(&self, (base, base_n): (f64, usize), (last, last_n): (f64, usize)) -> &'static str {
        let errors = binomial_error(base, base_n).zip(binomial_error(last, last_n));
        let Some((before, after)) = errors else { return "" };
        let better = (last - base) * self.good;
        match 2.0 * before.hypot(after) {
            limit if better > limit => "better",
            limit if better < -limit => "worse",
            _ => "",
        }
    }
}

impl CardRow {
    fn in_words(&self) -> String {
        let plain = |text: &str| text.split(" ±").next().unwrap_or_default().to_owned();
        match (self.base.as_str(), self.last.as_str()) {
            (MISSING, MISSING) => MISSING.to_owned(),
            (base, last) => format!("{} → {}\n{}", plain(base), plain(last), self.change),
        }
    }
}
