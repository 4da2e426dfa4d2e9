//! Wrappers that validate the return values of plugins, so that an error names the plugin and the call.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, Frames, FrozenPolicy, GenerateRequest, Judge, JudgeCase,
    ObjectiveBatch, ObjectiveValue, Policy, PreferenceObjective, Requirements, Response, RetrospectionCase,
    Retrospector, ScoreRequest, StepReport, TokenLogProbs, TrainStep, Verdict, VideoEncoder,
    VisualFeatures,
};

use super::PluginError;

/// A component of a plugin with its name.
struct Checked<T: ?Sized> {
    name: String,
    inner: Arc<T>,
}

impl<T: ?Sized> Checked<T> {
    fn new(name: &str, inner: Arc<T>) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), inner })
    }

    fn wrong(&self, call: &'static str, message: String) -> PluginError {
        PluginError::new(&self.name, call, message)
    }
}

pub(super) fn judge(name: &str, inner: Arc<dyn Judge>) -> Arc<dyn Judge> {
    Checked::new(name, inner)
}

pub(super) fn retrospector(name: &str, inner: Arc<dyn Retrospector>) -> Arc<dyn Retrospector> {
    Checked::new(name, inner)
}

pub(super) fn objective(name: &str, inner: Arc<dyn PreferenceObjective>) -> Arc<dyn PreferenceObjective> {
    Checked::new(name, inner)
}

pub(super) fn encoder(name: &str, inner: Arc<dyn VideoEncoder>) -> Arc<dyn VideoEncoder> {
    Checked::new(name, inner)
}

pub(super) fn policy(name: &str, inner: Arc<dyn Policy>) -> Arc<dyn Policy> {
    Checked::new(name, inner)
}

#[async_trait]
impl Judge for Checked<dyn Judge> {
    /// An invalid probability quarantines the sample, as for built-in judges.
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let verdict = self.inner.judge(case, policy).await?;
        let mut all = verdict.votes.iter().map(|vote| vote.p_first).chain([verdict.p_first]);
        match all.find(|p| !(0.0..=1.0).contains(p)) {
            Some(p) => {
                Err(self.wrong("judge", format!("its probability is {p}, not in [0, 1]")).bad_input())
            }
            None => Ok(verdict),
        }
    }
}

#[async_trait]
impl Retrospector for Checked<dyn Retrospector> {
    async fn describe(
        &self,
        case: &RetrospectionCase,
        policy: &FrozenPolicy,
    ) -> Result<String, ComponentError> {
        let text = self.inner.describe(case, policy).await?;
        if text.trim().is_empty() {
            return Err(self.wrong("describe", "its description is empty".to_owned()).bad_input());
        }
        Ok(text)
    }
}

impl PreferenceObjective for Checked<dyn PreferenceObjective> {
    fn requirements(&self) -> Requirements {
        self.inner.requirements()
    }

    fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, ComponentError> {
        let value = self.inner.evaluate(batch)?;
        let wrong = |message: String| Err(self.wrong("evaluate", message).failed());
        let (views, gradients) = (batch.views.len(), value.gradients.len());
        if gradients != views {
            return wrong(format!("it returned gradients of {gradients} views for {views}"));
        }
        for (view, gradient) in batch.views.iter().zip(&value.gradients) {
            let (wanted, got, of) = (view.policy.len(), gradient.len(), view.view);
            if got != wanted {
                return wrong(format!("its gradient by {of:?} has {got} numbers for {wanted} log-probs"));
            }
            if let Some(number) = gradient.iter().find(|number| !number.is_finite()) {
                return wrong(format!("its gradient by {of:?} has the number {number}"));
            }
        }
        if !value.loss.is_finite() {
            return wrong(format!("its loss is {}", value.loss));
        }
        match value.metrics.iter().find(|(_, number)| !number.is_finite()) {
            Some((name, number)) => wrong(format!("its metric `{name}` is {number}")),
            None => Ok(value),
        }
    }
}

#[async_trait]
impl VideoEncoder for Checked<dyn VideoEncoder> {
    fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint()
    }

    fn device_key(&self) -> String {
        self.inner.device_key()
    }

    async fn encode(&self, frames: &Frames) -> Result<VisualFeatures, ComponentError> {
        let features = self.inner.encode(frames).await?;
        let VisualFeatures { dtype, shape, bytes, .. } = &features;
        let elements: u128 = shape.iter().map(|&extent| extent as u128).product();
        if elements == 0 || elements * dtype.size() as u128 != bytes.len() as u128 {
            let text = format!("it returned {} bytes for shape {shape:?} of {dtype:?}", bytes.len());
            return Err(self.wrong("encode", text).failed());
        }
        Ok(features)
    }
}

#[async_trait]
impl Policy for Checked<dyn Policy> {
    fn fingerprint(&self) -> Fingerprint {
        self.inner.fingerprint()
    }

    fn try_fingerprint(&self) -> Result<Fingerprint, ComponentError> {
        self.inner.try_fingerprint()
    }

    fn encoder(&self) -> Option<Arc<dyn VideoEncoder>> {
        self.inner.encoder().map(|inner| encoder(&self.name, inner))
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let wanted = request.n;
        let responses = self.inner.generate(request).await?;
        let wrong = |message: String| Err(self.wrong("generate", message).failed());
        if responses.len() != wanted {
            return wrong(format!("it returned {} answers for {wanted}", responses.len()));
        }
        for Response { token_ids, logprobs, .. } in &responses {
            if token_ids.len() != logprobs.len() {
                let (tokens, logprobs) = (token_ids.len(), logprobs.len());
                return wrong(format!("an answer has {logprobs} log-probs for {tokens} tokens"));
            }
            if let Some(number) = logprobs.iter().find(|number| !number.is_finite()) {
                return wrong(format!("an answer has the log-prob {number}"));
            }
        }
        Ok(responses)
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let wanted = request.continuations.len();
        let scores = self.inner.score(request).await?;
        let wrong = |message: String| Err(self.wrong("score", message).failed());
        if scores.len() != wanted {
            return wrong(format!("it scored {} continuations of {wanted}", scores.len()));
        }
        match scores.iter().find(|score| score.token_ids.len() != score.logprobs.len()) {
            Some(score) => {
                let (tokens, logprobs) = (score.token_ids.len(), score.logprobs.len());
                wrong(format!("a continuation has {logprobs} log-probs for {tokens} tokens"))
            }
            None => Ok(scores),
        }
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        self.inner.train_step(step, objective).await
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.inner.save(dir, what).await
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.inner.load(dir, what).await
    }
}
