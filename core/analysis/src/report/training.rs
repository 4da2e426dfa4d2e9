//! The charts by optimiser step: loss and reward margin across iterations.

use crate::report::chart::{Line, Plot, Point};
use crate::report::format::{MISSING, Unit, count, number};
use crate::report::journal::StepLine;
use crate::report::run::{Journals, Run};
use crate::report::table::Table;

/// Points kept of one iteration; neighbouring steps beyond that are averaged.
const POINTS: usize = 160;
/// Iterations of fewer steps are drawn as they are, every step marked.
const FEW: usize = 12;
/// The smoothing window is this part of an iteration's points, to either side.
const WINDOW: usize = 16;

/// Reads one figure of a step.
type Figure = fn(&StepLine) -> Option<f64>;

const FIGURES: [(&str, Figure); 2] = [
    ("Training loss", |step| step.loss),
    ("Reward margin", |step| step.metrics.get("reward_margin").copied().flatten()),
];

/// The charts by step; some may be empty.
pub(crate) fn plots(runs: &[Run]) -> Vec<Plot> {
    FIGURES.iter().map(|(title, figure)| plot(title, *figure, runs)).collect()
}

fn plot(title: &str, figure: Figure, runs: &[Run]) -> Plot {
    let single = runs.len() == 1;
    let lines = runs.iter().enumerate().map(|(series, run)| line(series, run, figure, single)).collect();
    let drawn = if single { "Line: moving average; behind it, every step." } else { "Moving averages." };
    Plot {
        title: title.to_owned(),
        note: format!(
            "Every iteration starts anew from its own reference. {drawn} Legend: first step → mean of the last \
             epoch, in the last iteration."
        ),
        x_name: if single {
            "optimiser step, all iterations"
        } else {
            "iterations, each over its own steps"
        },
        unit: Unit::Number,
        reference: None,
        dividers: if single { dividers(&runs[0]) } else { Vec::new() },
        lines,
        table: table(title, figure, runs),
    }
}

/// A run's line: over optimiser steps where it is alone, and else over iterations, so that runs of
/// different length lie on top of each other.
fn line(series: usize, run: &Run, figure: Figure, alone: bool) -> Line {
    let ends = run.journals.iter().rev().find_map(|of| ends(of, figure));
    let (last, label) = ends.unwrap_or((0, MISSING.to_owned()));
    let name = if alone { format!("iteration {last}") } else { run.name.clone() };
    let mut line = Line { name, label, series, pieces: Vec::new(), faint: Vec::new(), band: Vec::new() };
    let mut before = 0;
    for journals in &run.journals {
        let points = values(&journals.steps, figure);
        let (start, width) = match alone {
            true => (before as f64, 1.0),
            false => (f64::from(journals.iteration) - 1.0, 1.0 / journals.steps.len().max(1) as f64),
        };
        before += journals.steps.len();
        let place = |step: f64| start + step * width;
        if alone && points.len() > FEW {
            line.faint
                .push(thinned(&points).into_iter().map(|(step, value)| (place(step), value)).collect());
        }
        let pieces = smoothed(journals.iteration, &points);
        line.pieces.push(pieces.into_iter().map(|point| Point { x: place(point.x), ..point }).collect());
    }
    line.pieces.retain(|piece| !piece.is_empty());
    line
}

/// `(step from 1, value)`, without what is no number.
fn values(steps: &[StepLine], figure: Figure) -> Vec<(f64, f64)> {
    let value = |(index, step)| Some(((index + 1) as f64, figure(step).filter(|value| value.is_finite())?));
    steps.iter().enumerate().filter_map(value).collect()
}

/// Averages neighbours until few enough points are left.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let width = points.len().div_ceil(POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let sum = chunk.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / chunk.len() as f64, sum.1 / chunk.len() as f64)
    };
    points.chunks(width).map(mean).collect()
}

/// A centred moving average. Its first value is that of the first step, before any update; its window
/// grows from there, and is cut at the end. Of a long piece only the two ends are marked.
fn smoothed(iteration: u32, points: &[(f64, f64)]) -> Vec<Point> {
    let few = points.len() <= FEW;
    let thin = thinned(points);
    let half = if few { 0 } else { (thin.len() / WINDOW).max(1) };
    let last = thin.len().saturating_sub(1);
    let point = |index: usize| {
        let (x, y) = match points.first() {
            Some(&first) if index == 0 => first,
            _ => (thin[index].0, centred_mean(&thin, index, half)),
        };
        let of = if few || index == 0 { "" } else { " (moving average)" };
        let marked = few || index == 0 || index == last;
        let hover = marked.then(|| format!("iteration {iteration}, step {x:.0}: {}{of}", number(y)));
        Point { x, y, error: None, hover }
    };
    (0..thin.len()).map(point).collect()
}

fn centred_mean(points: &[(f64, f64)], index: usize, half: usize) -> f64 {
    let reach = half.min(index);
    let window = &points[index - reach..=(index + reach).min(points.len() - 1)];
    window.iter().map(|point| point.1).sum::<f64>() / window.len() as f64
}

/// Where a new iteration begins.
fn dividers(run: &Run) -> Vec<f64> {
    let starts = run.journals.iter().scan(0, |before, journals| {
        let start = *before;
        *before += journals.steps.len();
        Some((start, journals.steps.len()))
    });
    starts.filter(|&(start, steps)| start > 0 && steps > 0).map(|(start, _)| start as f64 + 0.5).collect()
}

/// The iteration, and `0.693 → 0.412`: the first step, and the mean of the last epoch.
fn ends(journals: &Journals, figure: Figure) -> Option<(u32, String)> {
    let (first, last) = first_and_last(&journals.steps, figure)?;
    Some((journals.iteration, format!("{} → {}", number(first), number(last))))
}

fn first_and_last(steps: &[StepLine], figure: Figure) -> Option<(f64, f64)> {
    let epoch = steps.last()?.epoch;
    let first = steps.iter().find_map(figure)?;
    let last: Vec<f64> = steps.iter().filter(|step| step.epoch == epoch).filter_map(figure).collect();
    Some((first, last.iter().sum::<f64>() / last.len() as f64))
}

fn table(title: &str, figure: Figure, runs: &[Run]) -> Table {
    let mut head = vec!["iteration".to_owned()];
    for run in runs {
        let of = if runs.len() == 1 { String::new() } else { format!("{}: ", run.name) };
        head.extend(["steps", "first step", "mean of the last epoch"].map(|name| format!("{of}{name}")));
    }
    let mut table = Table::new(title, head);
    let iterations =
        runs.iter().flat_map(|run| run.journals.iter().map(|journals| journals.iteration)).max();
    for iteration in 1..=iterations.unwrap_or(0) {
        let cells = runs.iter().flat_map(|run| {
            let journals = run.journals_of(iteration);
            let ends = journals.and_then(|journals| first_and_last(&journals.steps, figure));
            let steps = journals.map_or(MISSING.to_owned(), |journals| count(journals.steps.len()));
            let (first, last) = ends.map_or((None, None), |(first, last)| (Some(first), Some(last)));
            [steps, Unit::Number.format_option(first), Unit::Number.format_option(last)]
        });
        table.rows.push(std::iter::once(iteration.to_string()).chain(cells).collect());
    }
    table
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn steps(losses: &[Option<f64>]) -> Vec<StepLine> {
        let epoch_of = |index: usize| (2 * index / losses.len()) as u64;
        let step = |(index, &loss)| StepLine { epoch: epoch_of(index), loss, metrics: BTreeMap::new() };
        losses.iter().enumerate().map(step).collect()
    }

    #[test]
    fn long_trainings_are_thinned_and_begin_with_their_first_step() {
        let losses: Vec<_> = (0..5000).map(|index| Some(1.0 / f64::from(index + 1))).collect();
        let points = values(&steps(&losses), |step| step.loss);
        let line = smoothed(1, &points);
        assert!(line.len() <= POINTS);
        assert_eq!((line[0].x, line[0].y), (1.0, 1.0));
        let last = line.last().unwrap();
        assert!(last.x > 4980.0 && last.y < 1.0 / 4000.0, "{last:?}");
        assert_eq!(line.iter().filter(|point| point.hover.is_some()).count(), 2);
    }

    #[test]
    fn values_that_are_no_numbers_are_left_out() {
        let steps = steps(&[Some(0.7), None, Some(f64::NAN), Some(0.5)]);
        assert_eq!(values(&steps, |step| step.loss), [(1.0, 0.7), (4.0, 0.5)]);
        assert!(smoothed(1, &[]).is_empty());
    }

    #[test]
    fn the_last_epoch_is_averaged() {
        let steps = steps(&[Some(0.7), Some(0.6), Some(0.5), Some(0.3)]);
        assert_eq!(first_and_last(&steps, |step| step.loss), Some((0.7, 0.4)));
    }
}
