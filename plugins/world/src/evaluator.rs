//! The evaluator `world`: metrics of texts by the clips' facts.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{Assessment, BuildContext, Cause, Component, ComponentError, Evaluator, LabelledSample};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::question::{Question, Truth};
use crate::reading::Reading;

/// Evaluator of answers and descriptions by the synthetic world's exact facts, claim by claim.
///
/// Each distinct sentence counts once, so padding affects only `repetition`. Metrics:
/// - `accuracy`: 1 if the requested claim is made and not contradicted (for a description: if at least
///   `describe_recall` of all facts are), else 0.
/// - `recall`: share of the requested claims that are made and not contradicted.
/// - `precision`: share of distinct sentences that are true claims; 0 for an empty text.
/// - `hallucination`: share of distinct sentences that are false or no claim; 0 for an empty text, whose
///   accuracy is 0.
/// - `hallucinated`: 1 if any sentence is false or no claim, else 0; further true claims do not lower it (as CHAIR_s,
///   Rohrbach et al. 2018, arXiv 1809.02156; `hallucination` is as CHAIR_i).
/// - `claims`: number of distinct sentences.
/// - `repetition`: share of sentences that repeat an earlier one.
/// - `f1`, for contexts only: harmonic mean of precision and recall over all facts.
///
/// Metrics of answers about the clips of `data.shifted_clips` have the prefix `shifted_`, and are means over these alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorldEvaluatorConfig {
    /// Minimum recall of an accurate description, above 0 and at most 1. Default 0.75.
    pub describe_recall: f64,
}

impl Default for WorldEvaluatorConfig {
    fn default() -> Self {
        Self { describe_recall: 0.75 }
    }
}

impl Component for WorldEvaluatorConfig {
    type Built = Arc<dyn Evaluator>;

    fn validate(&self) -> Result<(), String> {
        if self.describe_recall > 0.0 && self.describe_recall <= 1.0 {
            return Ok(());
        }
        Err(format!("describe_recall is {}; it may be above 0 and up to 1", self.describe_recall))
    }

    fn build(&self, _: &BuildContext) -> Result<Arc<dyn Evaluator>, Cause> {
        self.validate()?;
        Ok(Arc::new(WorldEvaluator::new(self.clone())))
    }
}

isr_config::register!(Evaluator "world" => WorldEvaluatorConfig, example = "describe_recall = 0.75\n");

/// Evaluator built by [`WorldEvaluatorConfig`], which defines its metrics.
///
/// # Quality
/// Answers: `recall + precision / 2`. For a question on one topic recall is 0 or 1, so correctness dominates
/// and precision breaks ties; for descriptions recall has twice the weight of precision. Contexts: `f1`. None
/// depends on length: an additional true claim neither gains nor loses.
#[derive(Clone, Debug)]
pub struct WorldEvaluator {
    config: WorldEvaluatorConfig,
}

impl WorldEvaluator {
    /// Creates an evaluator from a valid config.
    pub fn new(config: WorldEvaluatorConfig) -> Self {
        Self { config }
    }

    /// Metrics of a text as an answer to `truth.question`.
    pub fn assess_answer(&self, truth: &Truth, answer: &str) -> Assessment {
        let reading = Reading::of(answer);
        let recall = reading.recall(&truth.question.targets(&truth.clip));
        let wanted = match truth.question {
            Question::Describe => self.config.describe_recall,
            _ => 1.0,
        };
        let mut metrics = common_metrics(&reading, truth, recall);
        metrics.insert("accuracy".to_owned(), f64::from(u8::from(recall >= wanted)));
        let quality = recall + metrics["precision"] / 2.0;
        if truth.shifted {
            metrics = metrics.into_iter().map(|(name, value)| (format!("shifted_{name}"), value)).collect();
        }
        Assessment { quality, metrics }
    }

    /// Metrics of a text as a description of the whole clip.
    pub fn assess_context(&self, truth: &Truth, text: &str) -> Assessment {
        let reading = Reading::of(text);
        let recall = reading.recall(&truth.clip.claims());
        let mut metrics = common_metrics(&reading, truth, recall);
        let precision = metrics["precision"];
        let sum = precision + recall;
        let f1 = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        metrics.insert("f1".to_owned(), f1);
        Assessment { quality: f1, metrics }
    }
}

fn common_metrics(reading: &Reading, truth: &Truth, recall: f64) -> BTreeMap<String, f64> {
    let precision = reading.precision(&truth.clip);
    let named = [
        ("recall", recall),
        ("precision", precision.unwrap_or(0.0)),
        ("hallucination", precision.map_or(0.0, |precision| 1.0 - precision)),
        ("hallucinated", f64::from(u8::from(precision.is_some_and(|precision| precision < 1.0)))),
        ("claims", reading.unique() as f64),
        ("repetition", reading.repetition()),
    ];
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn truth(sample: &LabelledSample) -> Option<Truth> {
    Truth::deserialize(&sample.facts).ok()
}

#[async_trait]
impl Evaluator for WorldEvaluator {
    async fn answer(
        &self,
        sample: &LabelledSample,
        answer: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        Ok(truth(sample).map(|truth| self.assess_answer(&truth, answer)))
    }

    async fn context(
        &self,
        sample: &LabelledSample,
        text: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        Ok(truth(sample).map(|truth| self.assess_context(&truth, text)))
    }
}

#[cfg(test)]
mod tests {
    use isr_api::Sample;

    use super::*;
    use crate::attributes::{Background, Colour, Motion, Shape};
    use crate::facts::{Facts, Object};

    const ALL: &str = "count is two. bar is red. bar moves left. ring is blue. ring moves up. \
                       background is dark.";

    fn asked(question: Question) -> Truth {
        let object = |shape, colour, motion| Object { shape, colour, motion };
        let objects = vec![
            object(Shape::Bar, Colour::Red, Motion::Left),
            object(Shape::Ring, Colour::Blue, Motion::Up),
        ];
        Truth { clip: Facts { objects, background: Background::Dark }, question, shifted: false }
    }

    fn evaluator() -> WorldEvaluator {
        WorldEvaluator::new(WorldEvaluatorConfig::default())
    }

    fn answer(question: Question, text: &str) -> Assessment {
        evaluator().assess_answer(&asked(question), text)
    }

    const BAR: Question = Question::Colour { shape: Shape::Bar };

    #[test]
    fn an_answer_is_accurate_where_the_claim_is_made_and_not_contradicted() {
        for (text, accuracy, hallucination, claims) in [
            ("bar is red.", 1.0, 0.0, 1.0),
            ("ring moves up. The bar is red", 1.0, 0.0, 2.0),
            ("bar is red. ring is red.", 1.0, 0.5, 2.0),
            ("bar is red. bar is blue.", 0.0, 0.5, 2.0),
            ("bar is blue.", 0.0, 1.0, 1.0),
            ("bar moves left.", 0.0, 0.0, 1.0),
            ("red.", 0.0, 1.0, 1.0),
            ("", 0.0, 0.0, 0.0),
        ] {
            let metrics = answer(BAR, text).metrics;
            let got = (metrics["accuracy"], metrics["hallucination"], metrics["claims"]);
            assert_eq!(got, (accuracy, hallucination, claims), "{text}");
        }
    }

    #[test]
    fn quality_is_correctness_then_precision_and_never_length() {
        let quality = |text| answer(BAR, text).quality;
        assert_eq!(quality("bar is red."), quality("bar is red. ring moves up. count is two."));
        assert_eq!(quality("bar is red."), quality("bar is red. bar is red. bar is red."));
        assert!(quality("bar is red.") > quality("bar is red. ring is red."));
        let long_lie = "bar is red. ring is red. pole is red. cross is red. square is red.";
        assert!(quality(long_lie) > quality("bar is blue. ring moves up. count is two."));
        assert!(quality("bar is blue. ring moves up.") > quality("bar is blue."));
        assert!(quality("bar is blue. ring moves up.") > quality(""));
    }

    #[test]
    fn an_answer_with_any_false_sentence_is_hallucinated_however_much_else_is_true() {
        let hallucinated = |text: &str| answer(BAR, text).metrics["hallucinated"];
        assert_eq!(hallucinated("bar is red. ring moves up."), 0.0);
        assert_eq!(hallucinated("bar is red. ring is red."), 1.0);
        assert_eq!(hallucinated(&format!("{ALL} pole is red.")), 1.0);
        assert_eq!(hallucinated(""), 0.0);
    }

    #[test]
    fn answers_about_shifted_clips_have_metrics_of_their_own() {
        let shifted = Truth { shifted: true, ..asked(BAR) };
        let assessment = evaluator().assess_answer(&shifted, "bar is red.");
        assert_eq!(assessment.metrics["shifted_accuracy"], 1.0);
        assert!(assessment.metrics.keys().all(|name| name.starts_with("shifted_")));
        assert_eq!(assessment.quality, answer(BAR, "bar is red.").quality);
    }

    #[test]
    fn a_description_is_accurate_from_three_quarters_of_the_facts() {
        let accuracy = |text| answer(Question::Describe, text).metrics["accuracy"];
        assert_eq!(accuracy(ALL), 1.0);
        assert_eq!(accuracy("count is two. bar is red. bar moves left. ring is blue. ring moves up."), 1.0);
        assert_eq!(accuracy("count is two. bar is red. bar moves left. ring is blue."), 0.0);
        assert_eq!(accuracy(&format!("{ALL} bar is blue. ring is red.")), 0.0, "two are contradicted");
    }

    #[test]
    fn contexts_are_measured_over_all_facts() {
        let assess = |text| evaluator().assess_context(&asked(BAR), text);
        assert_eq!(assess(ALL).metrics["f1"], 1.0);
        let half = assess("count is two. bar is red. bar moves left. pole is red.");
        assert_eq!((half.metrics["precision"], half.metrics["recall"]), (0.75, 0.5));
        assert!((half.quality - 0.6).abs() < 1e-12);
        assert_eq!(assess("").quality, 0.0);
        assert!(!half.metrics.contains_key("accuracy"));
    }

    #[tokio::test]
    async fn samples_without_this_worlds_facts_are_left_alone() {
        let sample = Sample { id: "x".into(), video: "x.mp4".into(), instruction: "what?".to_owned() };
        let facts = serde_json::to_value(asked(BAR)).unwrap();
        let mut labelled = LabelledSample { sample, reference: String::new(), facts };
        let evaluator = evaluator();
        let assessment = evaluator.answer(&labelled, "bar is red.").await.unwrap();
        assert_eq!(assessment.unwrap().metrics["accuracy"], 1.0);
        assert!(evaluator.context(&labelled, "bar is red.").await.unwrap().is_some());
        let found = isr_testing::evaluator(Arc::new(evaluator.clone()), &labelled, "bar is red.").await;
        assert_eq!(found, []);
        labelled.facts = serde_json::Value::Null;
        assert_eq!(evaluator.answer(&labelled, "bar is red.").await.unwrap(), None);
        assert_eq!(evaluator.context(&labelled, "bar is red.").await.unwrap(), None);
    }
}
