//! A policy whose responses an inference engine samples.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, GenerateRequest, Policy, PreferenceObjective,
    ReasoningFormat, Response, Sampler, ScoreRequest, StepReport, TokenLogProbs, TrainStep, VideoEncoder,
};
use tokio::sync::{RwLock, RwLockReadGuard};

/// A [`Policy`] that scores and trains itself, and leaves sampling to a [`Sampler`], which it hands its weights when it is first
/// asked and whenever they have changed.
pub(crate) struct SampledPolicy {
    policy: Arc<dyn Policy>,
    sampler: Arc<dyn Sampler>,
    /// Fingerprint of the weights that the sampler has; `None` where they are not the policy's. Locked while it samples, so
    /// that they do not change meanwhile.
    held: RwLock<Option<Fingerprint>>,
}

impl SampledPolicy {
    pub(crate) fn new(policy: Arc<dyn Policy>, sampler: Arc<dyn Sampler>) -> Self {
        Self { policy, sampler, held: RwLock::default() }
    }

    /// Brings the sampler up to date, and keeps it so until the guard is dropped.
    async fn current(&self) -> Result<RwLockReadGuard<'_, Option<Fingerprint>>, ComponentError> {
        let held = self.held.read().await;
        if held.is_some() {
            return Ok(held);
        }
        drop(held);
        let mut held = self.held.write().await;
        if held.is_none() {
            let weights = self.policy.try_fingerprint()?;
            self.sampler.update(self.policy.as_ref(), &weights).await?;
            *held = Some(weights);
        }
        Ok(held.downgrade())
    }
}

/// Rejects what cannot have been sampled.
fn check(responses: &[Response], wanted: usize) -> Result<(), ComponentError> {
    if responses.len() != wanted {
        let text = format!("the sampler returned {} responses for {wanted}", responses.len());
        return Err(ComponentError::failed(text));
    }
    for Response { token_ids, logprobs, .. } in responses {
        let (tokens, numbers) = (token_ids.len(), logprobs.len());
        if tokens != numbers || logprobs.iter().any(|value| value.is_nan() || *value > 1e-3) {
            let text = format!(
                "the sampler returned {numbers} log-probs for {tokens} tokens, which must be as many numbers of at \
                 most 0"
            );
            return Err(ComponentError::failed(text));
        }
    }
    Ok(())
}

#[async_trait]
impl Policy for SampledPolicy {
    fn fingerprint(&self) -> Fingerprint {
        self.policy.fingerprint()
    }

    fn try_fingerprint(&self) -> Result<Fingerprint, ComponentError> {
        self.policy.try_fingerprint()
    }

    fn busy_seconds(&self) -> Option<f64> {
        self.policy.busy_seconds()
    }

    fn encoder(&self) -> Option<Arc<dyn VideoEncoder>> {
        self.policy.encoder()
    }

    fn reads_frames(&self) -> bool {
        self.policy.reads_frames()
    }

    fn trains_in_parallel(&self) -> bool {
        self.policy.trains_in_parallel()
    }

    fn reasoning_format(&self) -> Option<ReasoningFormat> {
        self.policy.reasoning_format()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let held = self.current().await?;
        let Some(weights) = &*held else {
            return Err(ComponentError::failed("the sampler has no weights"));
        };
        let wanted = request.n;
        let responses = self.sampler.generate(request).await?;
        check(&responses, wanted)?;
        let of_policy = |response| Response { policy: weights.clone(), ..response };
        Ok(responses.into_iter().map(of_policy).collect())
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        self.policy.score(request).await
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        self.held.write().await.take();
        self.policy.train_step(step, objective).await
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.policy.save(dir, what).await
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.held.write().await.take();
        self.policy.load(dir, what).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use isr_api::{FinishReason, Prompt, Sampling};
    use isr_testing::FakePolicy;

    use super::*;

    /// Answers with the number of updates; `under_way` counts requests.
    #[derive(Default)]
    struct Counting {
        updates: Mutex<Vec<Fingerprint>>,
        under_way: AtomicUsize,
        logprobs: Vec<f32>,
    }

    #[async_trait]
    impl Sampler for Counting {
        async fn update(&self, policy: &dyn Policy, weights: &Fingerprint) -> Result<(), ComponentError> {
            assert_eq!(self.under_way.load(Ordering::SeqCst), 0, "it samples");
            assert_eq!(policy.fingerprint(), *weights);
            self.updates.lock().unwrap().push(weights.clone());
            Ok(())
        }

        async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
            self.under_way.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            let (policy, updates) = (Fingerprint::of("nobody"), self.updates.lock().unwrap().len());
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            let (token_ids, logprobs) = (vec![7], self.logprobs.clone());
            let (text, finish_reason) = (updates.to_string(), FinishReason::Stop);
            Ok(vec![
                Response { text, token_ids, logprobs, finish_reason, policy, reasoning: None };
                request.n
            ])
        }
    }

    fn request(n: usize) -> GenerateRequest {
        GenerateRequest { prompt: Prompt::text("why"), sampling: Sampling::default(), n, seed: 1 }
    }

    #[tokio::test]
    async fn a_sampler_gets_the_weights_when_it_is_asked_after_they_have_changed() {
        let sampler = Arc::new(Counting { logprobs: vec![-1.0], ..Counting::default() });
        let inner = Arc::new(FakePolicy::default());
        let policy = SampledPolicy::new(inner.clone(), sampler.clone());
        let dir = tempfile::tempdir().unwrap();
        policy.save(dir.path(), CheckpointKind::Model).await.unwrap();
        assert!(sampler.updates.lock().unwrap().is_empty(), "nobody has asked");
        let many = futures::future::join_all((0..8).map(|_| policy.generate(request(2)))).await;
        for responses in many {
            let responses = responses.unwrap();
            assert!(responses.len() == 2 && responses.iter().all(|it| it.text == "1"));
            assert!(responses.iter().all(|it| it.policy == inner.fingerprint()));
        }
        policy.load(dir.path(), CheckpointKind::Model).await.unwrap();
        assert_eq!(policy.generate(request(1)).await.unwrap()[0].text, "2");
        assert_eq!(sampler.updates.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn what_cannot_have_been_sampled_is_refused() {
        for logprobs in [vec![], vec![f32::NAN], vec![0.5]] {
            let sampler = Arc::new(Counting { logprobs, ..Counting::default() });
            let policy = SampledPolicy::new(Arc::new(FakePolicy::default()), sampler);
            let error = policy.generate(request(1)).await.unwrap_err().to_string();
            assert!(error.contains("for 1 tokens, which must be as many numbers of at most 0"), "{error}");
        }
    }
}
