//! Tables of a paper or a guide, from `sweep.json` alone: results, differences from the baseline, and claims.

use std::borrow::Cow;
use std::collections::BTreeSet;

use isr_analysis::report::MISSING;
use isr_analysis::text_table::{TableForm, latex_escaped, markdown_row};

use crate::claims::{ClaimResult, claims_note, shown_p};
use crate::error::SweepError;
use crate::page::{HEADLINE, unit};
use crate::results::{ArmResult, Estimate, Point, Results};

/// Iterations of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Iterations {
    /// The last one of each arm.
    #[default]
    Last,
    /// Every one.
    All,
    /// One by its number; 0 is the starting model.
    Only(u32),
}

/// A table of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Mean of each metric, with its interval, by arm.
    Metrics,
    /// Mean paired difference from the baseline, with its interval, by arm.
    Differences,
    /// Claims with their verdicts.
    Claims,
}

/// What tables show.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// Metrics, in the order of columns. Empty: accuracy, hallucination, length and the judge's agreement, where measured.
    pub metrics: Vec<String>,
    /// Iterations.
    pub iterations: Iterations,
    /// Tables, in order. Empty: all that the sweep has.
    pub parts: Vec<Part>,
    /// Arms, in the sweep's order; claims are about any. Empty: all.
    pub arms: Vec<String>,
}

/// A table before it has a form.
struct Grid {
    caption: String,
    head: Vec<String>,
    /// Columns of text at the left; the others are figures. Those behind the first are as wide as a share of the line in LaTeX.
    prose: usize,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

/// Renders tables, one below the other. The same results give the same bytes.
///
/// # Errors
/// [`SweepError::Unusable`] for a metric, an arm or a table that the sweep does not have.
pub fn paper_tables(
    results: &Results,
    options: &TableOptions,
    form: TableForm,
) -> Result<String, SweepError> {
    let grids = grids(results, options)?;
    let texts = grids.iter().map(|grid| match form {
        TableForm::Markdown => grid.markdown(),
        TableForm::Latex => grid.latex(),
    });
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

fn grids(results: &Results, options: &TableOptions) -> Result<Vec<Grid>, SweepError> {
    let results = &of_arms(results, &options.arms)?;
    let metrics = metrics(results, options)?;
    let mut parts = options.parts.clone();
    if parts.is_empty() {
        parts.push(Part::Metrics);
        parts.extend(results.baseline.is_some().then_some(Part::Differences));
        parts.extend((!results.claims.is_empty()).then_some(Part::Claims));
    }
    let grid = |part: Part| match part {
        Part::Metrics => Ok(of_metrics(results, &metrics, options.iterations)),
        Part::Differences => match &results.baseline {
            Some(baseline) => Ok(of_differences(results, baseline, &metrics, options.iterations)),
            None => Err(unusable("has no `baseline` to compare with")),
        },
        Part::Claims if results.claims.is_empty() => Err(unusable("states no `claims`")),
        Part::Claims => Ok(of_claims(results)),
    };
    parts.into_iter().map(grid).collect()
}

fn unusable(what: &str) -> SweepError {
    SweepError::Unusable(format!("the sweep {what}; leave that table out"))
}

/// Results of the named arms alone.
fn of_arms<'r>(results: &'r Results, arms: &[String]) -> Result<Cow<'r, Results>, SweepError> {
    if arms.is_empty() {
        return Ok(Cow::Borrowed(results));
    }
    let known: Vec<_> = results.arms.iter().map(|arm| arm.name.as_str()).collect();
    if let Some(unknown) = arms.iter().find(|name| !known.contains(&name.as_str())) {
        let text = format!("no arm is called `{unknown}`; the sweep has: {}", known.join(", "));
        return Err(SweepError::Unusable(text));
    }
    let mut some = results.clone();
    some.arms.retain(|arm| arms.contains(&arm.name));
    Ok(Cow::Owned(some))
}

/// The named metrics, or those of the page's first table.
pub(crate) fn metrics<'r>(
    results: &'r Results,
    options: &'r TableOptions,
) -> Result<Vec<&'r str>, SweepError> {
    let known = results.metrics();
    if let Some(unknown) = options.metrics.iter().find(|name| !known.contains(name.as_str())) {
        let names = known.into_iter().collect::<Vec<_>>().join(", ");
        let text = format!("no arm has the metric `{unknown}`; the sweep has: {names}");
        return Err(SweepError::Unusable(text));
    }
    match options.metrics.as_slice() {
        [] => Ok(HEADLINE.into_iter().filter(|name| known.contains(name)).collect()),
        named => Ok(named.iter().map(String::as_str).collect()),
    }
}

/// Iterations of an arm that a table shows.
fn shown(arm: &ArmResult, iterations: Iterations) -> Vec<u32> {
    let measured: BTreeSet<u32> = arm.metrics.values().flatten().map(|point| point.iteration).collect();
    match iterations {
        Iterations::All => measured.into_iter().collect(),
        Iterations::Last => measured.last().copied().into_iter().collect(),
        Iterations::Only(iteration) => measured.get(&iteration).copied().into_iter().collect(),
    }
}

fn point<'r>(arm: &'r ArmResult, metric: &str, iteration: u32) -> Option<&'r Point> {
    arm.metrics.get(metric)?.iter().find(|point| point.iteration == iteration)
}

fn of_metrics(results: &Results, metrics: &[&str], iterations: Iterations) -> Grid {
    let runs = results.seeds.len() * results.bases.len().max(1);
    let mut notes = Vec::new();
    let mut rows = Vec::new();
    for arm in &results.arms {
        for iteration in shown(arm, iterations) {
            let mut row = vec![arm.name.clone(), iteration.to_string()];
            for metric in metrics {
                let estimate = point(arm, metric, iteration).map(|point| &point.estimate);
                row.push(cell(estimate, |value| figure(metric, value)));
                if let Some(n) = estimate.map(|estimate| estimate.n).filter(|&n| n < runs) {
                    notes
                        .push(format!("{}, iteration {iteration}, {metric}: {n} of {runs} runs", arm.name));
                }
            }
            rows.push(row);
        }
    }
    let head = metrics.iter().map(|metric| headed(metric, "%"));
    Grid {
        caption: format!("Mean over {} [95% interval, Student's t]", factors(results)),
        head: ["arm", "iteration"].map(str::to_owned).into_iter().chain(head).collect(),
        prose: 1,
        rows,
        notes,
    }
}

fn of_differences(results: &Results, baseline: &str, metrics: &[&str], iterations: Iterations) -> Grid {
    let mut rows = Vec::new();
    for arm in results.arms.iter().filter(|arm| arm.name != baseline) {
        for iteration in shown(arm, iterations) {
            let cells = metrics.iter().map(|metric| {
                let estimate = point(arm, metric, iteration).and_then(|point| point.difference.as_ref());
                cell(estimate, |value| change(metric, value))
            });
            rows.push([arm.name.clone(), iteration.to_string()].into_iter().chain(cells).collect());
        }
    }
    let head = metrics.iter().map(|metric| headed(metric, "points"));
    let same = if results.bases.len() > 1 { "base and seed" } else { "seed" };
    Grid {
        caption: format!(
            "Difference from {baseline}, paired by {same}: mean over {} [95% interval, Student's t]",
            factors(results)
        ),
        head: ["arm", "iteration"].map(str::to_owned).into_iter().chain(head).collect(),
        prose: 1,
        rows,
        notes: Vec::new(),
    }
}

fn of_claims(results: &Results) -> Grid {
    let mut notes = vec![claims_note(results)];
    let row = |claim: &ClaimResult| {
        let metric = &claim.comparison.metric;
        let ends = |interval: Option<[f64; 2]>| {
            let ends = interval.map(|ends| ends.map(|end| change(metric, end)));
            ends.map_or_else(|| MISSING.to_owned(), |[low, high]| format!("[{low}, {high}]"))
        };
        let remarks = claim.remarks();
        if !remarks.is_empty() {
            notes.push(format!("{}: {}", claim.comparison.name, remarks.join("; ")));
        }
        vec![
            claim.comparison.name.clone(),
            claim.comparison.stated(),
            claim.verdict.words().to_owned(),
            claim.difference.map_or_else(|| MISSING.to_owned(), |value| change(metric, value)),
            ends(claim.interval),
            ends(claim.simultaneous_interval),
            claim.adjusted_p.map_or_else(|| MISSING.to_owned(), shown_p),
        ]
    };
    let rows = results.claims.iter().map(row).collect();
    let head = [
        "claim",
        "compares",
        "verdict",
        "difference",
        "95% interval",
        "simultaneous interval",
        "adjusted p",
    ];
    Grid {
        caption: "Claims (differences of rates in percentage points)".to_owned(),
        head: head.map(str::to_owned).to_vec(),
        prose: 3,
        rows,
        notes,
    }
}

/// `bases a, b and seeds 1, 2`.
fn factors(results: &Results) -> String {
    let seeds: Vec<String> = results.seeds.iter().map(ToString::to_string).collect();
    let seeds = format!("seeds {}", seeds.join(", "));
    match results.bases.as_slice() {
        [] => seeds,
        bases => format!("bases {} and {seeds}", bases.join(", ")),
    }
}

/// A column's head: the metric, and its unit where it is a rate.
fn headed(metric: &str, of_rates: &str) -> String {
    if unit(metric).is_rate() { format!("{metric} ({of_rates})") } else { metric.to_owned() }
}

/// A value without its unit, which stands in the head.
fn figure(metric: &str, value: f64) -> String {
    unit(metric).format(value).trim_end_matches('%').to_owned()
}

/// A signed difference without its unit.
fn change(metric: &str, value: f64) -> String {
    unit(metric).format_change(value).trim_end_matches(" pts").to_owned()
}

fn cell(estimate: Option<&Estimate>, write: impl Fn(f64) -> String) -> String {
    match estimate {
        None => MISSING.to_owned(),
        Some(Estimate { mean, interval: None, .. }) => write(*mean),
        Some(Estimate { mean, interval: Some([low, high]), .. }) => {
            format!("{} [{}, {}]", write(*mean), write(*low), write(*high))
        }
    }
}

impl Grid {
    fn markdown(&self) -> String {
        let mut text = format!("{}:\n\n{}", self.caption, markdown_row(&self.head));
        text.push_str(&"|---".repeat(self.prose));
        text.push_str(&format!("{}|\n", "|--:".repeat(self.head.len() - self.prose)));
        self.rows.iter().for_each(|row| text.push_str(&markdown_row(row)));
        if !self.notes.is_empty() {
            text.push('\n');
        }
        self.notes.iter().for_each(|note| text.push_str(&format!("- {note}\n")));
        text
    }

    fn latex(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| latex_escaped(cell)).collect();
            let row = cells.join(" & ");
            // After the `\\` of the row above, a bracket would begin its argument.
            format!("{}{row} \\\\\n", if row.starts_with('[') { "{}" } else { "" })
        };
        let prose = match self.prose {
            1 => "l".to_owned(),
            count => "p{0.2\\linewidth}".repeat(count),
        };
        let one_line = |text: &str| text.replace(['\n', '\r'], " ");
        let mut text = format!("% {}\n% needs \\usepackage{{booktabs}}\n", one_line(&self.caption));
        let figures = "c".repeat(self.head.len() - self.prose);
        text.push_str(&format!("\\begin{{tabular}}{{{prose}{figures}}}\n\\toprule\n"));
        text.push_str(&format!("{}\\midrule\n", line(&self.head)));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        text.push_str("\\bottomrule\n\\end{tabular}\n");
        self.notes.iter().for_each(|note| text.push_str(&format!("% {}\n", one_line(note))));
        text
    }
}

/// Leaves out the metrics that are not asked for: a smaller `sweep.json`, to be kept beside a text whose tables are made of it.
/// All iterations, runs and claims stay.
///
/// # Errors
/// [`SweepError::Unusable`] for a metric that the sweep does not have.
pub fn of_some_metrics(results: &Results, options: &TableOptions) -> Result<Results, SweepError> {
    let kept = metrics(results, options)?;
    let mut smaller = results.clone();
    smaller.arms.iter_mut().for_each(|arm| arm.metrics.retain(|metric, _| kept.contains(&metric.as_str())));
    Ok(smaller)
}

/// Renders results, or claims, as comma-separated values (RFC 4180) in full precision: `part` is [`Part::Claims`], or either other one,
/// as differences stand beside the means. Rates are shares, not percent.
///
/// # Errors
/// [`SweepError::Unusable`] for a metric or an arm that the sweep does not have.
pub fn csv(results: &Results, options: &TableOptions, part: Part) -> Result<String, SweepError> {
    let results = &of_arms(results, &options.arms)?;
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let end = |interval: Option<[f64; 2]>, end: usize| number(interval.map(|ends| ends[end]));
    let mut rows: Vec<Vec<String>> = Vec::new();
    if part == Part::Claims {
        let head = "claim,arm,iteration,against,against_iteration,metric,direction,margin,verdict,stated_after_results,n,df,\
            difference,low,high,simultaneous_low,simultaneous_high,p,adjusted_p";
        rows.push(head.split(',').map(str::to_owned).collect());
        for claim in &results.claims {
            let it = &claim.comparison;
            let direction = serde_json::to_value(it.direction).unwrap_or_default();
            rows.push(vec![
                it.name.clone(),
                it.arm.clone(),
                it.iteration.to_string(),
                it.against.clone(),
                it.against_iteration.to_string(),
                it.metric.clone(),
                direction.as_str().unwrap_or_default().to_owned(),
                number(it.margin),
                claim.verdict.words().to_owned(),
                claim.stated_after_results.to_string(),
                claim.n.to_string(),
                claim.df.map_or_else(String::new, |df| df.to_string()),
                number(claim.difference),
                end(claim.interval, 0),
                end(claim.interval, 1),
                end(claim.simultaneous_interval, 0),
                end(claim.simultaneous_interval, 1),
                number(claim.p),
                number(claim.adjusted_p),
            ]);
        }
    } else {
        let head = "arm,iteration,metric,n,mean,low,high,difference,difference_low,difference_high";
        rows.push(head.split(',').map(str::to_owned).collect());
        let metrics = metrics(results, options)?;
        for arm in &results.arms {
            for iteration in shown(arm, options.iterations) {
                for point in
                    metrics.iter().filter_map(|metric| Some((metric, point(arm, metric, iteration)?)))
                {
                    let (metric, Point { estimate, difference, .. }) = point;
                    let of_difference = difference.as_ref().and_then(|it| it.interval);
                    rows.push(vec![
                        arm.name.clone(),
                        iteration.to_string(),
                        (*metric).to_owned(),
                        estimate.n.to_string(),
                        number(Some(estimate.mean)),
                        end(estimate.interval, 0),
                        end(estimate.interval, 1),
                        number(difference.as_ref().map(|it| it.mean)),
                        end(of_difference, 0),
                        end(of_difference, 1),
                    ]);
                }
            }
        }
    }
    let quoted = |cell: &String| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
    Ok(rows.iter().map(line).collect())
}
