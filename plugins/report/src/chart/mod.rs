//! Line charts: what is to be drawn ([`Plot`]), and where it lies on paper ([`ChartView`]).
//!
//! Rust computes positions; `templates/chart.html` writes the SVG, so that every text is escaped.

mod axis;
mod layout;

use crate::format::Unit;
use crate::tables::Table;
pub(crate) use layout::{ChartView, KeyView, key};

/// A chart to be drawn.
pub(crate) struct Plot {
    pub(crate) title: String,
    /// What a reader must know to read it right.
    pub(crate) note: String,
    /// Name of the x axis.
    pub(crate) x_name: &'static str,
    pub(crate) unit: Unit,
    /// A level to compare with, such as chance.
    pub(crate) reference: Option<(f64, &'static str)>,
    /// x positions of thin vertical lines.
    pub(crate) dividers: Vec<f64>,
    pub(crate) lines: Vec<Line>,
    /// The same figures to be read.
    pub(crate) table: Table,
}

/// One line of a chart.
pub(crate) struct Line {
    pub(crate) name: String,
    /// First and last value for the legend.
    pub(crate) label: String,
    /// Which of the series colours and marks.
    pub(crate) series: usize,
    /// Drawn without joining the pieces.
    pub(crate) pieces: Vec<Vec<Point>>,
    /// The unsmoothed values behind it.
    pub(crate) faint: Vec<Vec<(f64, f64)>>,
}

/// One value of a line.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Standard error, where it is known.
    pub(crate) error: Option<f64>,
    /// Text that appears under the pointer; a point without it has no mark.
    pub(crate) hover: Option<String>,
}

impl Line {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.pieces.iter().flatten()
    }
}

impl Plot {
    /// True where there is nothing to draw.
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.points().next().is_none())
    }
}
