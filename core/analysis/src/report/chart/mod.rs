//! Line charts: what is to be drawn ([`Plot`]), and where it lies on paper ([`ChartView`]).
//!
//! Rust computes positions; `templates/chart.html` writes the SVG, so that every text is escaped.

mod axis;
mod layout;

use crate::report::format::Unit;
use crate::report::table::Table;
pub use layout::{ChartView, KeyView, key};

/// A chart to be drawn.
pub struct Plot {
    /// Its title.
    pub title: String,
    /// What a reader must know to read it right.
    pub note: String,
    /// Name of the x axis.
    pub x_name: &'static str,
    /// How its values are written.
    pub unit: Unit,
    /// A level to compare with, such as chance.
    pub reference: Option<(f64, &'static str)>,
    /// x positions of thin vertical lines.
    pub dividers: Vec<f64>,
    /// Its lines.
    pub lines: Vec<Line>,
    /// The same figures to be read.
    pub table: Table,
}

/// One line of a chart.
pub struct Line {
    /// For the legend.
    pub name: String,
    /// First and last value for the legend.
    pub label: String,
    /// Which of the series colours and marks.
    pub series: usize,
    /// Drawn without joining the pieces.
    pub pieces: Vec<Vec<Point>>,
    /// The unsmoothed values behind it.
    pub faint: Vec<Vec<(f64, f64)>>,
    /// An interval around it: x, low, high.
    pub band: Vec<(f64, f64, f64)>,
}

/// One value of a line.
#[derive(Clone, Debug)]
pub struct Point {
    /// Place on the x axis.
    pub x: f64,
    /// Place on the y axis.
    pub y: f64,
    /// Standard error, where it is known.
    pub error: Option<f64>,
    /// Text that appears under the pointer; a point without it has no mark.
    pub hover: Option<String>,
}

impl Line {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.pieces.iter().flatten()
    }
}

impl Plot {
    /// True where there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points().next().is_none())
    }
}
