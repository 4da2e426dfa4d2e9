//! The evaluator `questions` at run time.

use std::collections::BTreeMap;

use async_trait::async_trait;
use isr_api::{Assessment, ComponentError, Evaluator, LabelledSample};

use super::marker::{Case, Mark, Scorer};

/// Evaluator built by [`ScorerConfig`](super::ScorerConfig).
///
/// Metrics: `accuracy` (0 or 1), `score` where the scorer has one, and `unparsed`, 1 for a reply that does not state its
/// score as asked. A reply that counts for nothing has `unparsed` alone. Quality: the score, or the accuracy.
///
/// The caption is the sample's `facts`, or `facts.caption`.
pub(super) struct QuestionsEvaluator {
    pub(super) scorer: Scorer,
}

#[async_trait]
impl Evaluator for QuestionsEvaluator {
    async fn answer(
        &self,
        sample: &LabelledSample,
        answer: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        let caption = sample.facts.get("caption").unwrap_or(&sample.facts).as_str();
        let case = Case {
            caption,
            question: &sample.sample.instruction,
            answer: &sample.reference,
            prediction: answer,
            options: &[],
        };
        let mark = self.scorer.mark(&case).await?;
        Ok(Some(assessment(&mark)))
    }

    fn is_costly(&self) -> bool {
        self.scorer.asks()
    }
}

fn assessment(mark: &Mark) -> Assessment {
    let accuracy = mark.correct.map(|correct| f64::from(u8::from(correct)));
    let unparsed = f64::from(u8::from(mark.is_unparsed()));
    let named = [("accuracy", accuracy), ("score", mark.score), ("unparsed", Some(unparsed))];
    let metrics: BTreeMap<String, f64> =
        named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    Assessment { quality: mark.score.or(accuracy).unwrap_or_default(), metrics }
}
