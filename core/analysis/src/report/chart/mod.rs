//! Line charts: data ([`Plot`]) and SVG layout ([`ChartView`]).
//!
//! Rust computes positions; `templates/chart.html` writes the SVG, so that every text is escaped.

mod axis;
mod layout;

use crate::report::format::Unit;
use crate::report::table::Table;
pub use layout::{ChartView, KeyView, key};

/// Data of a chart.
pub struct Plot {
    /// Title.
    pub title: String,
    /// Note below the title.
    pub note: String,
    /// Label of the x axis.
    pub x_name: &'static str,
    /// Unit of the y axis.
    pub unit: Unit,
    /// Horizontal reference line (value, label), such as chance.
    pub reference: Option<(f64, &'static str)>,
    /// Vertical lines, in x values.
    pub dividers: Vec<f64>,
    /// Lines.
    pub lines: Vec<Line>,
    /// The same values as a table.
    pub table: Table,
}

/// One line of a chart.
pub struct Line {
    /// Name in the legend.
    pub name: String,
    /// Values in the legend, usually first and last.
    pub label: String,
    /// Index of colour and marker; see [`key`].
    pub series: usize,
    /// Connected pieces, separated by gaps.
    pub pieces: Vec<Vec<Point>>,
    /// Unsmoothed values (x, y) drawn faintly behind the line.
    pub faint: Vec<Vec<(f64, f64)>>,
    /// Confidence band: x, low, high.
    pub band: Vec<(f64, f64, f64)>,
}

/// Point of a line.
#[derive(Clone, Debug)]
pub struct Point {
    /// Value on the x axis.
    pub x: f64,
    /// Value on the y axis.
    pub y: f64,
    /// Standard error, drawn as whiskers.
    pub error: Option<f64>,
    /// Tooltip; a point without one has no marker.
    pub hover: Option<String>,
}

impl Line {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.pieces.iter().flatten()
    }
}

impl Plot {
    /// Whether no line has a point.
    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points().next().is_none())
    }
}
