//! Sample source over lists.

use async_trait::async_trait;
use isr_api::{ComponentError, LabelledSample, Sample, SampleSource};

use crate::error::DataError;
use crate::lists::Lists;

/// Sample source that reads its lists on each call.
#[derive(Clone, Debug)]
pub(crate) struct ListSource(pub(crate) Lists);

#[async_trait]
impl SampleSource for ListSource {
    async fn prepare(&self) -> Result<(), ComponentError> {
        let lists = self.0.clone();
        blocking(move || lists.check()).await
    }

    async fn training(&self) -> Result<Vec<Sample>, ComponentError> {
        let lists = self.0.clone();
        let lines = blocking(move || lists.training()).await?;
        Ok(lines.into_iter().map(|line| line.sample).collect())
    }

    async fn evaluation(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        let lists = self.0.clone();
        blocking(move || lists.labelled(lists.evaluation.as_deref())).await
    }

    async fn audit(&self) -> Result<Vec<LabelledSample>, ComponentError> {
        let lists = self.0.clone();
        blocking(move || lists.labelled(lists.audit.as_deref())).await
    }
}

/// Runs blocking work on tokio's blocking threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DataError> + Send + 'static,
) -> Result<T, ComponentError> {
    let result = tokio::task::spawn_blocking(work).await;
    Ok(result.map_err(|error| ComponentError::Panicked(error.to_string()))??)
}
