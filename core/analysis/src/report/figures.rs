//! The charts by iteration: accuracy, hallucination, length, the judge, the visual contexts.

use std::collections::BTreeSet;

use isr_api::records::{
    EvaluationRecord, IterationSummary, JudgeSummary, evaluation_metrics, iteration_metrics,
};

use crate::report::chart::{Line, Plot, Point};
use crate::report::format::{MISSING, Unit, binomial_error};
use crate::report::run::Run;
use crate::report::table::{Table, range_of_n, with_error};

/// A chart, and where its lines come from.
struct Figure {
    title: &'static str,
    note: &'static str,
    unit: Unit,
    reference: Option<(f64, &'static str)>,
    series: &'static [(&'static str, Source)],
}

/// Metric of a line ([`isr_api::records::iteration_metrics`]), and its sample size.
#[derive(Clone, Copy)]
enum Source {
    /// A metric of an evaluation on held-out samples, the starting model's included.
    HeldOut(&'static str),
    /// A metric of the judge, and how many verdicts it is a share of.
    Judge(&'static str, fn(&JudgeSummary) -> usize),
    /// Any other metric of an iteration.
    Iteration(&'static str),
    /// `responses.tokens`, drawn at the model that sampled them: iteration t samples with the model that t − 1 trained.
    TrainingTokens,
}

/// One value.
#[derive(Clone, Copy, Debug)]
struct Reading {
    iteration: u32,
    value: f64,
    n: Option<usize>,
}

const JUDGE_NOTE: &str = "Iteration t is judged by the model that iteration t − 1 trained.";

const FIGURES: &[Figure] = &[
    Figure {
        title: "Accuracy",
        note: "Held-out samples.",
        unit: Unit::Rate,
        reference: None,
        series: &[
            ("greedy", Source::HeldOut("greedy.accuracy")),
            ("sampled", Source::HeldOut("sampled.accuracy")),
        ],
    },
    Figure {
        title: "Hallucination rate",
        note: "Held-out samples; lower is better.",
        unit: Unit::Rate,
        reference: None,
        series: &[
            ("greedy", Source::HeldOut("greedy.hallucination")),
            ("sampled", Source::HeldOut("sampled.hallucination")),
        ],
    },
    Figure {
        title: "Response length",
        note: "Mean tokens. Training samples are answered by the model that the axis names.",
        unit: Unit::Tokens,
        reference: None,
        series: &[
            ("greedy", Source::HeldOut("greedy.response_tokens")),
            ("sampled", Source::HeldOut("sampled.response_tokens")),
            ("training samples", Source::TrainingTokens),
        ],
    },
    Figure {
        title: "Judge agrees with the facts",
        note: JUDGE_NOTE,
        unit: Unit::Rate,
        reference: Some((0.5, "chance")),
        series: &[("agreement", Source::Judge("judge.agreement", |judge| judge.agreement_of))],
    },
    Figure {
        title: "Position consistency",
        note: "Share of verdicts that name the same answer in both orders.",
        unit: Unit::Rate,
        reference: None,
        series: &[("consistency", Source::Judge("judge.position_consistency", |judge| judge.verdicts))],
    },
    Figure {
        title: "Longer answer preferred",
        note: "Share of decided verdicts, among answers of unequal length in tokens.",
        unit: Unit::Rate,
        reference: Some((0.5, "no length bias")),
        series: &[(
            "longer preferred",
            Source::Judge("judge.longer_preferred", |judge| judge.longer_preferred_of),
        )],
    },
    Figure {
        title: "Visual contexts",
        note: "Descriptions of the training videos, measured against the facts.",
        unit: Unit::Rate,
        reference: None,
        series: &[
            ("accuracy", Source::Iteration("contexts.accuracy")),
            ("hallucination", Source::Iteration("contexts.hallucination")),
        ],
    },
];

/// All charts by iteration; some may be empty. Several runs get a chart for each series.
pub(crate) fn plots(runs: &[Run]) -> Vec<Plot> {
    match runs {
        [run] => FIGURES.iter().map(|figure| of_one_run(figure, run)).collect(),
        _ => FIGURES
            .iter()
            .flat_map(|figure| figure.series.iter().map(|series| of_many_runs(figure, series, runs)))
            .collect(),
    }
}

fn of_one_run(figure: &Figure, run: &Run) -> Plot {
    let lines = figure.series.iter().map(|(name, source)| (name.to_string(), source.read(run)));
    plot(figure, figure.title.to_owned(), lines.filter(|(_, readings)| !readings.is_empty()).collect())
}

fn of_many_runs(figure: &Figure, (name, source): &(&str, Source), runs: &[Run]) -> Plot {
    let title =
        if figure.series.len() > 1 { format!("{}, {name}", figure.title) } else { figure.title.into() };
    plot(figure, title, runs.iter().map(|run| (run.name.clone(), source.read(run))).collect())
}

fn plot(figure: &Figure, title: String, lines: Vec<(String, Vec<Reading>)>) -> Plot {
    let ns = lines.iter().flat_map(|(_, readings)| readings).filter_map(|reading| reading.n);
    let n = range_of_n(ns.filter(|&n| n > 0)).filter(|_| figure.unit.is_rate());
    let from_start = lines.iter().flat_map(|(_, readings)| readings).any(|reading| reading.iteration == 0);
    let spread =
        n.map_or(String::new(), |n| format!(" Whiskers: ± 1 binomial standard error, n\u{a0}=\u{a0}{n}."));
    let note = format!("{}{spread}", figure.note);
    Plot {
        table: table(figure.unit, &title, &lines),
        lines: lines.iter().enumerate().map(|(series, line)| draw(figure.unit, series, line)).collect(),
        x_name: if from_start { "iteration (0 = starting model)" } else { "iteration" },
        unit: figure.unit,
        reference: figure.reference,
        dividers: Vec::new(),
        title,
        note,
    }
}

fn draw(unit: Unit, series: usize, (name, readings): &(String, Vec<Reading>)) -> Line {
    let adjacent = |a: &Reading, b: &Reading| b.iteration == a.iteration + 1;
    let pieces = readings.chunk_by(adjacent).map(|piece| {
        let point = |reading: &Reading| Point {
            x: f64::from(reading.iteration),
            y: reading.value,
            error: reading.error(unit),
            hover: Some(hover(unit, name, reading)),
        };
        piece.iter().map(point).collect()
    });
    let value = |reading: &Reading| unit.format(reading.value);
    let label = match readings.as_slice() {
        [] => MISSING.to_owned(),
        [only] => value(only),
        [first, .., last] => format!("{} → {}", value(first), value(last)),
    };
    Line {
        name: name.clone(),
        label,
        series,
        pieces: pieces.collect(),
        faint: Vec::new(),
        band: Vec::new(),
    }
}

fn hover(unit: Unit, name: &str, reading: &Reading) -> String {
    let n = reading.n.filter(|&n| n > 0).map_or(String::new(), |n| format!(" (n = {n})"));
    let value = with_error(unit, Some(reading.value), reading.n.unwrap_or(0));
    format!("{name}, iteration {}: {value}{n}", reading.iteration)
}

fn table(unit: Unit, title: &str, lines: &[(String, Vec<Reading>)]) -> Table {
    let head = std::iter::once("iteration".to_owned()).chain(lines.iter().map(|(name, _)| name.clone()));
    let mut table = Table::new(title, head);
    let iterations: BTreeSet<u32> =
        lines.iter().flat_map(|(_, readings)| readings.iter().map(|reading| reading.iteration)).collect();
    for iteration in iterations {
        let cell = |(_, readings): &(String, Vec<Reading>)| {
            let reading = readings.iter().find(|reading| reading.iteration == iteration);
            reading.map_or(MISSING.to_owned(), |reading| {
                let n = reading.n.unwrap_or(0);
                let value = with_error(unit, Some(reading.value), n);
                if n > 0 { format!("{value} (n = {n})") } else { value }
            })
        };
        let cells = lines.iter().map(cell);
        table.rows.push(std::iter::once(iteration.to_string()).chain(cells).collect());
    }
    table
}

impl Source {
    fn read(self, run: &Run) -> Vec<Reading> {
        let mut readings = match self {
            Self::HeldOut(metric) => held_out(run, metric),
            Self::Judge(metric, of) => iterations(run, metric, |row| Some(of(&row.judge))),
            Self::Iteration(metric) => iterations(run, metric, |_| None),
            Self::TrainingTokens => iterations(run, "responses.tokens", |_| None)
                .into_iter()
                .map(|reading| Reading { iteration: reading.iteration.saturating_sub(1), ..reading })
                .collect(),
        };
        readings.retain(|reading| reading.value.is_finite());
        readings
    }
}

impl Reading {
    fn error(&self, unit: Unit) -> Option<f64> {
        self.n.filter(|_| unit.is_rate()).and_then(|n| binomial_error(self.value, n))
    }
}

/// One reading a completed iteration that has the metric.
fn iterations(run: &Run, metric: &str, n: impl Fn(&IterationSummary) -> Option<usize>) -> Vec<Reading> {
    let reading = |row: &IterationSummary| {
        let value = *iteration_metrics(row).get(metric)?;
        Some(Reading { iteration: row.iteration, value, n: n(row) })
    };
    run.summaries.iter().filter_map(reading).collect()
}

/// One reading an evaluation that has the metric.
fn held_out(run: &Run, metric: &str) -> Vec<Reading> {
    let base = run.base.iter().map(|base| (0, base));
    let trained = run.summaries.iter().filter_map(|row| Some((row.iteration, row.evaluation.as_ref()?)));
    let reading = |(iteration, evaluation): (u32, &EvaluationRecord)| {
        let value = *evaluation_metrics(evaluation).get(metric)?;
        Some(Reading { iteration, value, n: Some(evaluation.samples) })
    };
    base.chain(trained).filter_map(reading).collect()
}
