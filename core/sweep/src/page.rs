//! `sweep.html`, in the style of a run's report.

use std::collections::BTreeSet;
use std::path::Path;

use isr_analysis::report::{
    ChartView, KeyView, Line, MISSING, Plot, Point as Mark, Table, Unit, duration_of, words,
};
use isr_run::store::write_atomic;
use serde::Serialize;

use crate::error::SweepError;
use crate::outcome_sentence as outcome;
use crate::results::{ArmResult, Estimate, Point, Results, RunResult, Status};

/// Most columns side by side.
const COLUMNS: usize = 8;

/// Metrics of the first table and charts, where measured.
pub(crate) const HEADLINE: [&str; 8] = [
    "greedy.accuracy",
    "sampled.accuracy",
    "greedy.hallucination",
    "sampled.hallucination",
    "greedy.response_tokens",
    "contexts.accuracy",
    "judge.agreement",
    "judge.longer_preferred",
];

#[derive(Serialize)]
struct Page {
    title: String,
    version: &'static str,
    seeds: Vec<u64>,
    baseline: Option<String>,
    /// What came of the sweep.
    outcome: String,
    results: Vec<Table>,
    differences: Vec<Table>,
    settings: Table,
    charts: Vec<ChartView>,
    others: Vec<ChartView>,
    arms: Vec<ArmView>,
    failures: Vec<Failure>,
}

#[derive(Serialize)]
struct ArmView {
    name: String,
    key: KeyView,
    stopped_after: Option<u32>,
    runs: Vec<RunView>,
}

#[derive(Serialize)]
struct RunView {
    seed: u64,
    status: &'static str,
    iterations: u32,
    /// Wall-clock time of its stages.
    duration: Option<String>,
    /// Relative to the page; `None` where there is no report yet.
    report: Option<String>,
}

#[derive(Serialize)]
struct Failure {
    run: String,
    error: String,
}

/// Writes the page into the sweep's folder.
///
/// # Errors
/// Where it cannot be written.
pub(crate) fn write(results: &Results, dir: &Path) -> Result<(), SweepError> {
    let template = ("sweep.html", include_str!("templates/sweep.html"));
    let html = isr_analysis::report::render_page(template, &page(results, dir))?;
    Ok(write_atomic(&dir.join("sweep.html"), html.as_bytes())?)
}

fn page(results: &Results, dir: &Path) -> Page {
    let known = results.metrics();
    let (headline, rest): (Vec<&str>, Vec<&str>) = known.iter().partition(|name| HEADLINE.contains(name));
    let headline: Vec<&str> = HEADLINE.into_iter().filter(|name| headline.contains(name)).collect();
    let charts = |names: &[&str]| names.iter().map(|name| plot(results, name).view()).collect();
    let arm = |(index, arm): (usize, &ArmResult)| ArmView {
        name: arm.name.clone(),
        key: isr_analysis::report::key(index),
        stopped_after: arm.stopped_after,
        runs: arm.runs.iter().map(|run| run_view(run, dir)).collect(),
    };
    let failures = results.arms.iter().flat_map(|arm| {
        arm.runs.iter().filter_map(|run| {
            let name = format!("{}, seed {}", arm.name, run.seed);
            Some(Failure { run: name, error: run.error.clone()? })
        })
    });
    Page {
        title: results.sweep.clone(),
        version: env!("CARGO_PKG_VERSION"),
        seeds: results.seeds.clone(),
        baseline: results.baseline.clone(),
        outcome: outcome::sentence(results, &known),
        results: shown(table(
            results,
            &headline,
            "Mean over seeds and its 95% interval (Student's t)",
            |point| Some(&point.estimate),
        )),
        differences: shown(differences(results, &headline)),
        settings: settings(results),
        charts: charts(&headline),
        others: charts(&rest),
        arms: results.arms.iter().enumerate().map(arm).collect(),
        failures: failures.collect(),
    }
}

/// A table that fits the page.
fn shown(table: Table) -> Vec<Table> {
    if table.rows.is_empty() { Vec::new() } else { table.without_empty_columns().split(COLUMNS) }
}

fn run_view(run: &RunResult, dir: &Path) -> RunView {
    let report = run.dir.join("report.html");
    RunView {
        seed: run.seed,
        status: match run.status {
            Status::Complete => "complete",
            Status::Failed => "failed",
            Status::Stopped => "stopped",
            Status::Unfinished => "unfinished",
        },
        iterations: run.iterations,
        duration: duration_of(&dir.join(&run.dir)),
        report: dir.join(&report).exists().then(|| report.to_string_lossy().into_owned()),
    }
}

/// One row per arm, at its last iteration.
fn table<'a>(
    results: &'a Results,
    metrics: &[&str],
    caption: &str,
    of: impl Fn(&'a Point) -> Option<&'a Estimate>,
) -> Table {
    let head = ["arm", "iteration", "seeds"].into_iter().map(str::to_owned);
    let mut table = Table::new(caption, head.chain(metrics.iter().map(|metric| title(metric))));
    for arm in &results.arms {
        let Some(last) = arm.metrics.values().flatten().map(|point| point.iteration).max() else {
            continue;
        };
        let point = |metric: &str| arm.metrics.get(metric)?.iter().find(|point| point.iteration == last);
        let cells: Vec<Option<&Estimate>> = metrics.iter().map(|metric| of(point(metric)?)).collect();
        let seeds: BTreeSet<usize> = cells.iter().flatten().map(|estimate| estimate.n).collect();
        let seeds = seeds.last().map(ToString::to_string).unwrap_or_default();
        let texts = metrics.iter().zip(&cells).map(|(metric, cell)| written(unit(metric), *cell));
        table.rows.push([arm.name.clone(), last.to_string(), seeds].into_iter().chain(texts).collect());
    }
    table
}

/// Paired differences from the baseline; empty without one.
fn differences(results: &Results, metrics: &[&str]) -> Table {
    let Some(baseline) = &results.baseline else { return Table::default() };
    let caption =
        format!("Difference from {baseline} with the same seed: mean and 95% interval (Student's t)");
    let mut table = table(results, metrics, &caption, |point| point.difference.as_ref());
    table.rows.retain(|row| row[0] != *baseline);
    let changes = |arm: &str, metric: &str, last: &str| {
        let points = results.arms.iter().find(|other| other.name == arm)?.metrics.get(metric)?;
        points.iter().find(|point| point.iteration.to_string() == last)?.difference.as_ref()
    };
    for row in &mut table.rows {
        let (arm, last) = (row[0].clone(), row[1].clone());
        for (cell, metric) in row.iter_mut().skip(3).zip(metrics) {
            *cell = changed(unit(metric), changes(&arm, metric, &last));
        }
    }
    table
}

fn written(unit: Unit, estimate: Option<&Estimate>) -> String {
    let Some(Estimate { mean, interval, .. }) = estimate else { return MISSING.to_owned() };
    let ends = interval.map(|[low, high]| format!("\n{} to {}", unit.format(low), unit.format(high)));
    format!("{}{}", unit.format(*mean), ends.unwrap_or_default())
}

fn changed(unit: Unit, estimate: Option<&Estimate>) -> String {
    let Some(Estimate { mean, interval, .. }) = estimate else { return MISSING.to_owned() };
    let ends = interval
        .map(|[low, high]| format!("\n{} to {}", unit.format_change(low), unit.format_change(high)));
    format!("{}{}", unit.format_change(*mean), ends.unwrap_or_default())
}

fn settings(results: &Results) -> Table {
    let mut table = Table {
        prose: Some(1),
        ..Table::new("What each arm changes of the base config", ["arm", "settings"])
    };
    for arm in &results.arms {
        let lines: Vec<String> = arm.set.iter().map(|(path, value)| format!("{path} = {value}")).collect();
        table.rows.push(vec![arm.name.clone(), lines.join("\n")]);
    }
    table
}

/// Chart of a metric: one line per arm, in a band of its confidence interval.
fn plot(results: &Results, metric: &str) -> Plot {
    let unit = unit(metric);
    let mut table = Table::new(title(metric), ["iteration"]);
    table.head.extend(results.arms.iter().map(|arm| arm.name.clone()));
    let points = |arm: &ArmResult| arm.metrics.get(metric).cloned().unwrap_or_default();
    let iterations: BTreeSet<u32> =
        results.arms.iter().flat_map(points).map(|point| point.iteration).collect();
    for &iteration in &iterations {
        let cell = |arm: &ArmResult| {
            let point = points(arm).into_iter().find(|point| point.iteration == iteration);
            written(unit, point.map(|point| point.estimate).as_ref()).replace('\n', ", ")
        };
        table
            .rows
            .push(std::iter::once(iteration.to_string()).chain(results.arms.iter().map(cell)).collect());
    }
    let lines = results.arms.iter().enumerate().map(|(series, arm)| line(series, arm, unit, &points(arm)));
    let note = match metric {
        "judge.agreement" | "judge.position_consistency" | "judge.longer_preferred" => {
            "Bands or whiskers: 95% intervals over seeds (Student's t). Iteration t is judged by the model that t − 1 trained."
        }
        _ => "Bands or whiskers: 95% intervals over seeds (Student's t).",
    };
    Plot {
        title: title(metric),
        note: note.to_owned(),
        x_name: if iterations.contains(&0) { "iteration (0 = starting model)" } else { "iteration" },
        unit,
        reference: (metric == "judge.agreement").then_some((0.5, "chance")),
        dividers: Vec::new(),
        lines: lines.collect(),
        table,
    }
}

fn line(series: usize, arm: &ArmResult, unit: Unit, points: &[Point]) -> Line {
    let mark = |point: &Point| {
        let text = written(unit, Some(&point.estimate)).replace('\n', ", ");
        let (iteration, n) = (point.iteration, point.estimate.n);
        Mark {
            x: f64::from(iteration),
            y: point.estimate.mean,
            error: None,
            hover: Some(format!(
                "{}, iteration {iteration}: {text} ({})",
                arm.name,
                if n == 1 { "1 seed".to_owned() } else { format!("{n} seeds") }
            )),
        }
    };
    let band = points.iter().filter_map(|point| {
        let [low, high] = point.estimate.interval?;
        Some((f64::from(point.iteration), low, high))
    });
    let value = |point: &Point| unit.format(point.estimate.mean);
    let label = match points {
        [] => MISSING.to_owned(),
        [only] => value(only),
        [first, .., last] => format!("{} → {}", value(first), value(last)),
    };
    Line {
        name: arm.name.clone(),
        label,
        series,
        pieces: vec![points.iter().map(mark).collect()],
        faint: Vec::new(),
        band: band.collect(),
    }
}

pub(crate) fn unit(metric: &str) -> Unit {
    match metric.split_once('.') {
        Some(("judge", "agreement" | "position_consistency" | "longer_preferred")) => Unit::Rate,
        Some((_, name)) => Unit::of_metric(name),
        None => Unit::Number,
    }
}

/// `greedy.response_tokens` as a title.
pub(crate) fn title(metric: &str) -> String {
    match metric.split_once('.') {
        Some((group, name)) => format!("{}: {}", words(group), words(name)),
        None => words(metric),
    }
}
