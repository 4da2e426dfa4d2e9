//! Layout of a plot in SVG coordinates.

use std::fmt::Write;

use serde::Serialize;

use super::axis::{Axis, range};
use super::{Line, Plot, Point};
use crate::report::format::{self, Unit};
use crate::report::table::Table;

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 208.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 36.0;
/// Distance between the whiskers of neighbouring lines, so that they do not hide each other.
const DODGE: f64 = 3.0;
/// Colours and marks in the style sheet; more lines than that begin again, dashed.
const SERIES: usize = 7;
/// Narrowest range of a chart of shares, so that noise is not blown up to full height.
const LEAST_RATE_RANGE: f64 = 0.1;

/// Laid-out chart, the context of `chart.html`.
#[derive(Serialize)]
pub struct ChartView {
    title: String,
    note: String,
    x_name: &'static str,
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    dividers: Vec<f64>,
    reference: Option<Tick>,
    lines: Vec<LineView>,
    /// Whether lines are drawn as bars: all values are at one place.
    bars: bool,
    table: Table,
}

#[derive(Serialize)]
struct Tick {
    at: f64,
    label: String,
}

#[derive(Serialize)]
struct LineView {
    name: String,
    label: String,
    key: KeyView,
    band: String,
    faint: String,
    path: String,
    whiskers: String,
    marks: Vec<Mark>,
}

#[derive(Serialize)]
struct Mark {
    x: f64,
    y: f64,
    shape: String,
    hover: String,
}

/// Legend key of a series: colour, marker and dash.
#[derive(Serialize)]
pub struct KeyView {
    colour: usize,
    dashed: bool,
    shape: String,
}

/// Legend key of a series; the marker is centred at (12, 6).
pub fn key(series: usize) -> KeyView {
    KeyView { colour: series % SERIES, dashed: series >= SERIES, shape: shape(series, 12.0, 6.0) }
}

impl Plot {
    /// Computes the layout.
    pub fn view(self) -> ChartView {
        let (x, y, bars) = (self.x_axis(), self.y_axis(), self.has_bars());
        let count = self.lines.len();
        let view = |(at, line): (usize, &Line)| match bars {
            true => bar_view(line, &y, at, count),
            false => line_view(line, &x, &y, offset(at, count)),
        };
        let lines = self.lines.iter().enumerate().map(view).collect();
        let reference = self.reference.filter(|(level, _)| y.contains(*level));
        ChartView {
            x_ticks: x.ticks().into_iter().map(|tick| x_tick(&x, tick)).collect(),
            y_ticks: y.ticks().into_iter().map(|tick| y_tick(&y, tick, self.unit)).collect(),
            dividers: self.dividers.iter().map(|&at| tenth(x.place(at))).collect(),
            reference: reference
                .map(|(level, label)| Tick { at: tenth(y.place(level)), label: label.into() }),
            lines,
            title: self.title,
            bars,
            note: self.note,
            x_name: self.x_name,
            table: self.table,
            width: WIDTH,
            height: HEIGHT,
            left: LEFT,
            right: WIDTH - RIGHT,
            top: TOP,
            bottom: HEIGHT - BOTTOM,
        }
    }

    /// Whether all values are at one place, where marks would lie on each other.
    fn has_bars(&self) -> bool {
        let mut points = self.lines.iter().flat_map(Line::points);
        let Some(first) = points.next() else { return false };
        first.hover.is_some() && points.all(|point| point.hover.is_some() && point.x == first.x)
    }

    fn x_axis(&self) -> Axis {
        if let (true, Some(only)) = (self.has_bars(), self.lines.iter().flat_map(Line::points).next()) {
            return Axis::whole(only.x, only.x, 1, LEFT, WIDTH - RIGHT);
        }

        let xs = || self.lines.iter().flat_map(|line| line.points().map(|point| point.x));
        let low = xs().fold(f64::INFINITY, f64::min).min(1.0);
        let high = xs().fold(low, f64::max);
        let air = 4.0 + DODGE * self.lines.len().min(4) as f64;
        Axis::whole(low.floor(), high, 10, LEFT + air, WIDTH - RIGHT - air)
    }

    fn y_axis(&self) -> Axis {
        let values = self.lines.iter().flat_map(|line| {
            let ends = line.points().flat_map(|point| {
                let error = point.error.unwrap_or(0.0);
                [point.y - error, point.y + error]
            });
            let band = line.band.iter().flat_map(|&(_, low, high)| [low, high]);
            ends.chain(band).chain(line.faint.iter().flatten().map(|&(_, y)| y))
        });
        // Bars stand on zero.
        let ground = self.has_bars().then_some(0.0);
        let values = values.chain(ground);
        let (least, bounds) =
            if self.unit.is_rate() { (LEAST_RATE_RANGE, Some((0.0, 1.0))) } else { (0.0, None) };
        let clamp = |value: f64| if self.unit.is_rate() { value.clamp(0.0, 1.0) } else { value };
        let (low, high) = range(values.map(clamp), least, bounds);
        let (low, high) = if high > low { (low, high) } else { (low - 0.5, high + 0.5) };
        Axis::round(low, high, 4, HEIGHT - BOTTOM, TOP)
    }
}

fn x_tick(axis: &Axis, tick: f64) -> Tick {
    Tick { at: tenth(axis.place(tick)), label: format::count(tick.max(0.0) as usize) }
}

fn y_tick(axis: &Axis, tick: f64, unit: Unit) -> Tick {
    let decimals = axis.decimals();
    let label = match unit {
        Unit::Rate => format!("{:.*}%", decimals.saturating_sub(2), tick * 100.0),
        _ if decimals > 4 || tick.abs() >= 1e5 => format::number(tick),
        _ => format!("{tick:.decimals$}").replace('-', "−"),
    };
    Tick { at: tenth(axis.place(tick)), label }
}

/// Shifts line `at` of `count` sideways, symmetrically.
fn offset(at: usize, count: usize) -> f64 {
    let spread = (count.saturating_sub(1) as f64).min(4.0) * DODGE;
    if count < 2 { 0.0 } else { spread * (at as f64 / (count - 1) as f64 - 0.5) }
}

fn line_view(line: &Line, x: &Axis, y: &Axis, offset: f64) -> LineView {
    let marked = |point: &Point| point.hover.is_some();
    let offset = if line.points().all(marked) { offset } else { 0.0 };
    let place = |point: &Point| (x.place(point.x) + offset, y.place(point.y));
    let marks = line.points().filter_map(|point| {
        let (at_x, at_y) = place(point);
        let hover = point.hover.clone()?;
        Some(Mark { x: tenth(at_x), y: tenth(at_y), shape: shape(line.series, at_x, at_y), hover })
    });
    LineView {
        name: line.name.clone(),
        label: line.label.clone(),
        key: key(line.series),
        band: band(&line.band, x, y),
        faint: path(
            line.faint.iter().map(|piece| piece.iter().map(|&(at, to)| (x.place(at), y.place(to)))),
        ),
        path: path(line.pieces.iter().map(|piece| piece.iter().map(place))),
        whiskers: whiskers(line, x, y, offset),
        marks: marks.collect(),
    }
}

/// A line of one value as a bar: from zero to the value, with its error or interval as a whisker.
fn bar_view(line: &Line, y: &Axis, at: usize, count: usize) -> LineView {
    let slot = (WIDTH - RIGHT - LEFT) / count.max(1) as f64;
    let (middle, half) = (LEFT + slot * (at as f64 + 0.5), (slot * 0.35).min(28.0));
    let (mut marks, mut whiskers) = (Vec::new(), String::new());
    for point in line.points() {
        let (top, ground) = (y.place(point.y), y.place(0.0));
        let band = line.band.first().map(|&(_, low, high)| (low, high));
        let ends = point.error.map(|error| (point.y - error, point.y + error)).or(band);
        if let Some((low, high)) = ends {
            let inside = |value: f64| y.place(value).clamp(TOP, HEIGHT - BOTTOM);
            push(&mut whiskers, format_args!("M{middle:.1} {:.1}V{:.1}", inside(low), inside(high)));
        }
        let (left, right) = (middle - half, middle + half);
        marks.push(Mark {
            x: tenth(middle),
            y: tenth(top),
            shape: format!("M{left:.1} {ground:.1}V{top:.1}H{right:.1}V{ground:.1}Z"),
            hover: point.hover.clone().unwrap_or_default(),
        });
    }
    LineView {
        name: line.name.clone(),
        label: line.label.clone(),
        key: key(line.series),
        band: String::new(),
        faint: String::new(),
        path: String::new(),
        whiskers,
        marks,
    }
}

/// There along the upper ends, and back along the lower ones; nothing of fewer than two.
fn band(ends: &[(f64, f64, f64)], x: &Axis, y: &Axis) -> String {
    if ends.len() < 2 {
        return String::new();
    }
    let upper = ends.iter().map(|&(at, _, high)| (x.place(at), y.place(high)));
    let lower = ends.iter().rev().map(|&(at, low, _)| (x.place(at), y.place(low)));
    path(std::iter::once(upper.chain(lower))) + "Z"
}

fn path<P: Iterator<Item = (f64, f64)>>(pieces: impl Iterator<Item = P>) -> String {
    let mut text = String::new();
    for piece in pieces {
        for (index, (x, y)) in piece.enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            push(&mut text, format_args!("{command}{x:.1} {y:.1}"));
        }
    }
    text
}

/// One standard error up and down, cut at the chart's edge.
fn whiskers(line: &Line, x: &Axis, y: &Axis, offset: f64) -> String {
    let mut text = String::new();
    for point in line.points() {
        let Some(error) = point.error.filter(|error| *error > 0.0) else { continue };
        let at = x.place(point.x) + offset;
        let inside = |value: f64| y.place(value).clamp(TOP, HEIGHT - BOTTOM);
        let (low, high) = (inside(point.y - error), inside(point.y + error));
        push(&mut text, format_args!("M{at:.1} {low:.1}V{high:.1}"));
    }
    text
}

/// Circle, square, diamond, triangle and their like, so that colour is not all that tells lines apart.
fn shape(series: usize, x: f64, y: f64) -> String {
    let corners: &[(f64, f64)] = match series % SERIES {
        0 => return format!("M{:.1} {y:.1}a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0Z", x - 3.2),
        1 => &[(-2.9, -2.9), (2.9, -2.9), (2.9, 2.9), (-2.9, 2.9)],
        2 => &[(0.0, -4.0), (4.0, 0.0), (0.0, 4.0), (-4.0, 0.0)],
        3 => &[(0.0, -3.9), (3.7, 2.8), (-3.7, 2.8)],
        4 => &[(0.0, 3.9), (3.7, -2.8), (-3.7, -2.8)],
        5 => &[(-3.9, 0.0), (2.8, 3.7), (2.8, -3.7)],
        _ => &[(3.9, 0.0), (-2.8, 3.7), (-2.8, -3.7)],
    };
    path(std::iter::once(corners.iter().map(|(right, down)| (x + right, y + down)))) + "Z"
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

fn push(text: &mut String, piece: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(piece);
}
