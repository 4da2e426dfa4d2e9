//! What stands for the components that a training on data alone does not call.

use async_trait::async_trait;
use isr_api::{
    Candidate, ComponentError, Decision, FrozenPolicy, Judge, JudgeCase, LabelledSample, Sample,
    SampleSource, Selection, Verdict,
};

/// Stands for data, judge and selection in a run whose pairs all come from datasets: there are no samples, so nothing is
/// judged or selected.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfflineOnly;

#[async_trait]
impl SampleSource for OfflineOnly {
    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        Ok(Vec::new())
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Judge for OfflineOnly {
    async fn judge(&self, _: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        Err(ComponentError::failed("a training on data alone has no judge"))
    }
}

impl Selection for OfflineOnly {
    fn select(&self, candidates: &[Candidate]) -> Vec<Decision> {
        candidates.iter().map(|_| Decision::Drop("no selection".to_owned())).collect()
    }
}
