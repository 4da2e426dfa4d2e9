//! Figures of marked predictions: means with intervals, and differences of two models.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use isr_analysis::interval::clustered_mean_interval;
use serde::{Deserialize, Serialize};

/// A mean over units, with its 95% interval clustered by video ([`clustered_mean_interval`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The mean.
    pub value: f64,
    /// Its 95% interval; null with fewer than two videos.
    pub interval: Option<[f64; 2]>,
    /// Number of units.
    pub n: usize,
    /// Number of videos.
    pub videos: usize,
}

impl Figure {
    /// The figure of values with their videos; `None` without any.
    pub fn of(values: &[(&str, f64)]) -> Option<Self> {
        let n = values.len();
        let videos = values.iter().map(|(video, _)| video).collect::<BTreeSet<_>>().len();
        let value = values.iter().map(|(_, value)| value).sum::<f64>() / n as f64;
        (n > 0).then(|| Self { value, interval: clustered_mean_interval(values), n, videos })
    }
}

/// What is right or wrong as a whole: a question, or a pair of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unit {
    pub(crate) id: String,
    pub(crate) video: String,
    pub(crate) correct: Option<bool>,
    pub(crate) score: Option<f64>,
    /// Whether each of its replies states its score as asked.
    pub(crate) stated: bool,
}

/// One value of a unit.
pub(crate) type Take = fn(&Unit) -> Option<f64>;

/// 1 if it is right.
pub(crate) fn accuracy(unit: &Unit) -> Option<f64> {
    unit.correct.map(|correct| f64::from(u8::from(correct)))
}

/// Its score.
pub(crate) fn score(unit: &Unit) -> Option<f64> {
    unit.score
}

/// The figure of a value over units.
pub(crate) fn figure<'u>(units: impl IntoIterator<Item = &'u Unit>, take: Take) -> Option<Figure> {
    let values: Vec<_> =
        units.into_iter().filter_map(|unit| Some((unit.video.as_str(), take(unit)?))).collect();
    Figure::of(&values)
}

/// Paired difference of two models on the units that both have a mark of: `second - first`.
pub(crate) fn difference(first: &[Unit], second: &[Unit], take: Take) -> Option<Figure> {
    let of_first: HashMap<&str, f64> =
        first.iter().filter_map(|unit| Some((unit.id.as_str(), take(unit)?))).collect();
    let paired = |unit: &'_ Unit| Some(take(unit)? - of_first.get(unit.id.as_str())?);
    let values: Vec<_> =
        second.iter().filter_map(|unit| Some((unit.video.as_str(), paired(unit)?))).collect();
    Figure::of(&values)
}

/// Means of the parts of pairs: `basic` and `hallucination`.
pub(crate) type Parts = BTreeMap<String, f64>;
