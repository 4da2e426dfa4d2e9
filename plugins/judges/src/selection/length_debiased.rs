//! The selection `length_debiased`: verdicts without what length is worth to the judge in this iteration.
//!
//! The judge `length_debiased` subtracts a slope that was fitted before the run, to another policy's verdicts. The
//! preference for length changes while a policy trains on its own verdicts; here the slope is that of the iteration.

use std::sync::Arc;

use isr_api::{BuildContext, Candidate, Cause, Component, Decision, Selection};
use isr_config::registry::SelectionConfig;
use isr_run::words::excess_words;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::odds::{logit, without_effect};

/// Length-debiased verdicts: fits `logit p = a + slope (words_first - words_second)` to all verdicts of the iteration
/// by least squares, subtracts `slope (words_first - words_second)` from each, and hands them to another selection. What
/// is left is uncorrelated with length, also where longer answers are truly better or worse. Compare AlpacaEval 2's
/// length control (arXiv 2404.04475). Without two lengths nothing is subtracted.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LengthDebiasedConfig {
    /// Selection that decides on the corrected verdicts: a table of `type` and settings. Required.
    pub inner: Box<dyn SelectionConfig>,
    /// Clamp of probabilities to [clip, 1 - clip] before the logit, in (0, 0.5). Default 0.01.
    #[serde(default = "hundredth")]
    pub clip: f64,
}

fn hundredth() -> f64 {
    0.01
}

impl Component for LengthDebiasedConfig {
    type Built = Arc<dyn Selection>;

    fn validate(&self) -> Result<(), String> {
        bounds::clip(self.clip)?;
        bounds::selection("inner", self.inner.as_ref())
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        Ok(Arc::new(LengthDebiased { inner: self.inner.build(cx)?, clip: self.clip }))
    }
}

isr_config::register!(
    Selection "length_debiased" => LengthDebiasedConfig,
    example = "inner = { type = \"consistent\" }\n"
);

struct LengthDebiased {
    inner: Arc<dyn Selection>,
    clip: f64,
}

impl Selection for LengthDebiased {
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision> {
        let excess = |candidate: &Candidate| excess_words(&candidate.first.text, &candidate.second.text);
        let points: Vec<_> = candidates
            .iter()
            .map(|candidate| [excess(candidate), logit(candidate.verdict.p_first, self.clip)])
            .collect();
        let slope = slope(&points);
        if slope == 0.0 {
            return self.inner.select(candidates);
        }
        let corrected: Vec<_> = candidates
            .iter()
            .zip(&points)
            .map(|(candidate, [excess, _])| Candidate {
                verdict: without_effect(&candidate.verdict, slope * excess, self.clip),
                ..candidate.clone()
            })
            .collect();
        self.inner.select(&corrected)
    }
}

/// The slope of the least-squares line through points `[x, y]`; 0 where all x are equal.
fn slope(points: &[[f64; 2]]) -> f64 {
    let count = points.len().max(1) as f64;
    let mean = |axis: usize| points.iter().map(|point| point[axis]).sum::<f64>() / count;
    let (x, y) = (mean(0), mean(1));
    let spread: f64 = points.iter().map(|point| (point[0] - x).powi(2)).sum();
    if spread == 0.0 {
        return 0.0;
    }
    points.iter().map(|point| (point[0] - x) * (point[1] - y)).sum::<f64>() / spread
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::tests::{decisions, selection};

    /// `numpy.polyfit(x, y, 1)[0]` of NumPy 2.4.6.
    #[test]
    fn the_slope_is_that_of_least_squares() {
        let points = [[-3.0, -0.4], [-1.0, 0.1], [0.0, -0.2], [2.0, 0.9], [4.0, 0.7], [5.0, 1.3]];
        assert!((slope(&points) - 0.200_711_743_772_242).abs() < 1e-12, "{}", slope(&points));
        assert_eq!(slope(&[[2.0, 0.3], [2.0, 0.9]]), 0.0);
        assert_eq!(slope(&[]), 0.0);
    }

    #[test]
    fn a_preference_that_length_explains_is_dropped_and_others_stay() {
        // The longer answer wins by as much as it is longer.
        let candidates = [
            ("a", "x x x", "x", 0.73),
            ("b", "x", "x x x", 0.27),
            ("c", "x x", "x", 0.62),
            ("d", "x", "x x", 0.38),
            ("e", "x", "y", 0.8),
            ("f", "x", "z", 0.3),
        ];
        let plain = decisions("type = 'consistent'", &candidates);
        assert_eq!(plain, ["1", "2", "1", "2", "1", "2"]);
        let section = "type = 'length_debiased'\ninner = { type = 'consistent', min_margin = 0.12 }";
        let said = decisions(section, &candidates);
        let low = "margin below 0.12";
        assert_eq!(said, [low, low, low, low, "1", "2"]);
    }

    #[test]
    fn the_inner_selection_is_checked() {
        let bad = selection("type = 'length_debiased'\ninner = { type = 'top_k', share = 2.0 }").err();
        assert_eq!(bad.as_deref(), Some("inner (top_k): share is 2; it must be in (0, 1]"));
        let bad = selection("type = 'length_debiased'\nclip = 0.5\ninner = { type = 'consistent' }").err();
        assert_eq!(bad.as_deref(), Some("clip is 0.5; it must be in (0, 0.5)"));
    }
}
