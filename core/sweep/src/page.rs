//! `sweep.html`, in the style of a run's report.

use std::collections::BTreeSet;
use std::path::Path;

use isr_analysis::report::{
    ChartView, KeyView, Line, MISSING, Plot, Point as Mark, Table, Unit, duration_of, words,
};
use isr_run::store::write_atomic;
use serde::Serialize;

use crate::claims::{claims_note, shown_p};
use crate::error::SweepError;
use crate::outcome_sentence as outcome;
use crate::results::{ArmResult, Estimate, Point, Results, RunResult};

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
    claims: Option<Table>,
    claims_note: String,
    /// What means are over: seeds, or bases and seeds.
    over: &'static str,
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
    rows: Vec<RowView>,
}

/// Runs of an arm, with one base where there are bases.
#[derive(Serialize)]
struct RowView {
    base: Option<String>,
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
        rows: rows(arm, dir),
    };
    let failures = results.arms.iter().flat_map(|arm| {
        arm.runs.iter().filter_map(|run| {
            let base = run.base.as_ref().map_or_else(String::new, |base| format!(", {base}"));
            let name = format!("{}{base}, seed {}", arm.name, run.seed);
            Some(Failure { run: name, error: run.error.clone()? })
        })
    });
    Page {
        title: results.sweep.clone(),
        version: env!("CARGO_PKG_VERSION"),
        seeds: results.seeds.clone(),
        baseline: results.baseline.clone(),
        outcome: outcome::sentence(results, &known),
        claims: (!results.claims.is_empty()).then(|| claims(results)),
        claims_note: claims_note(results),
        over: results.over(),
        results: shown(table(
            results,
            &headline,
            &format!("Mean over {} and its 95% interval (Student's t)", results.over()),
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

/// Runs of an arm, a row for each base.
fn rows(arm: &ArmResult, dir: &Path) -> Vec<RowView> {
    let by_base = arm.runs.chunk_by(|one, other| one.base == other.base);
    let row = |runs: &[RunResult]| RowView {
        base: runs.first().and_then(|run| run.base.clone()),
        runs: runs.iter().map(|run| run_view(run, dir)).collect(),
    };
    by_base.map(row).collect()
}

/// One row per claim.
fn claims(results: &Results) -> Table {
    let head = ["claim", "verdict", "difference", "95% interval", "simultaneous", "adjusted p", "compares"];
    let mut table = Table { prose: Some(6), ..Table::new("Claims", head) };
    for claim in &results.claims {
        let unit = unit(&claim.comparison.metric);
        let ends = |interval: Option<[f64; 2]>| {
            interval.map_or_else(
                || MISSING.to_owned(),
                |[low, high]| format!("{} to {}", unit.format_change(low), unit.format_change(high)),
            )
        };
        let difference = claim.difference.map_or_else(|| MISSING.to_owned(), |it| unit.format_change(it));
        table.rows.push(vec![
            claim.comparison.name.clone(),
            claim.verdict.words().to_owned(),
            difference,
            ends(claim.interval),
            ends(claim.simultaneous_interval),
            claim.adjusted_p.map_or_else(|| MISSING.to_owned(), shown_p),
            [vec![claim.comparison.stated()], claim.remarks()].concat().join(". "),
        ]);
    }
    table
}

/// A table that fits the page.
fn shown(table: Table) -> Vec<Table> {
    if table.rows.is_empty() { Vec::new() } else { table.without_empty_columns().split(COLUMNS) }
}

fn run_view(run: &RunResult, dir: &Path) -> RunView {
    let report = run.dir.join("report.html");
    RunView {
        seed: run.seed,
        status: run.status.name(),
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
    let count = if results.bases.len() > 1 { "runs" } else { "seeds" };
    let head = ["arm", "iteration", count].into_iter().map(str::to_owned);
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
    let same = if results.bases.len() > 1 { "base and seed" } else { "seed" };
    let caption =
        format!("Difference from {baseline} with the same {same}: mean and 95% interval (Student's t)");
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
    let lines = results
        .arms
        .iter()
        .enumerate()
        .map(|(series, arm)| line(series, arm, unit, &points(arm), results.bases.len() > 1));
    let mut note = format!("Bands or whiskers: 95% intervals over {} (Student's t).", results.over());
    if let "judge.agreement" | "judge.position_consistency" | "judge.longer_preferred" = metric {
        note.push_str(" Iteration t is judged by the model that t − 1 trained.");
    }
    Plot {
        title: title(metric),
        note,
        x_name: if iterations.contains(&0) { "iteration (0 = starting model)" } else { "iteration" },
        unit,
        reference: (metric == "judge.agreement").then_some((0.5, "chance")),
        dividers: Vec::new(),
        lines: lines.collect(),
        table,
    }
}

fn line(series: usize, arm: &ArmResult, unit: Unit, points: &[Point], of_bases: bool) -> Line {
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
                match (n, of_bases) {
                    (_, true) => format!("{n} runs"),
                    (1, false) => "1 seed".to_owned(),
                    (_, false) => format!("{n} seeds"),
                }
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
