//! Wrappers that validate the return values of plugins, so that an error names the plugin and the call.

mod rows;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    Assessment, CheckpointKind, ComponentError, Evaluator, Event, Fingerprint, Frames, FrozenPolicy,
    GenerateRequest, Judge, JudgeCase, LabelledSample, ObjectiveBatch, ObjectiveValue, Observer, Policy,
    PreferenceObjective, ProgressSender, ReasoningFormat, Requirements, Response, RetrospectionCase,
    Retrospector, ScoreRequest, StepReport, TokenLogProbs, TrainStep, Verdict, VideoEncoder,
    VisualFeatures,
};

use super::PluginError;
pub(super) use rows::{data, demonstrations, preferences};

/// Where a component comes from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// Name of the component.
    pub(super) name: &'a str,
    /// The plugin's file.
    pub(super) file: &'a Path,
}

/// A component of a plugin with its name.
struct Checked<T: ?Sized> {
    name: String,
    inner: Arc<T>,
}

impl<T: ?Sized> Checked<T> {
    fn new(from: Source<'_>, inner: Arc<T>) -> Arc<Self> {
        Arc::new(Self { name: from.name.to_owned(), inner })
    }

    fn wrong(&self, call: &'static str, message: String) -> PluginError {
        PluginError::new(&self.name, call, message)
    }
}

pub(super) fn judge(from: Source<'_>, inner: Arc<dyn Judge>) -> Arc<dyn Judge> {
    Checked::new(from, inner)
}

pub(super) fn retrospector(from: Source<'_>, inner: Arc<dyn Retrospector>) -> Arc<dyn Retrospector> {
    Checked::new(from, inner)
}

pub(super) fn objective(
    from: Source<'_>,
    inner: Arc<dyn PreferenceObjective>,
) -> Arc<dyn PreferenceObjective> {
    Checked::new(from, inner)
}

pub(super) fn encoder(from: Source<'_>, inner: Arc<dyn VideoEncoder>) -> Arc<dyn VideoEncoder> {
    Checked::new(from, inner)
}

pub(super) fn evaluator(from: Source<'_>, inner: Arc<dyn Evaluator>) -> Arc<dyn Evaluator> {
    Checked::new(from, inner)
}

pub(super) fn observer(from: Source<'_>, inner: Arc<dyn Observer>) -> Arc<dyn Observer> {
    Checked::new(from, inner)
}

pub(super) fn policy(from: Source<'_>, inner: Arc<dyn Policy>) -> Arc<dyn Policy> {
    Checked::new(from, inner)
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

impl Checked<dyn Evaluator> {
    /// Figures that are not finite quarantine the sample, as a verdict's do.
    fn finite(
        &self,
        call: &'static str,
        assessment: Option<Assessment>,
    ) -> Result<Option<Assessment>, ComponentError> {
        let quality = assessment.iter().map(|it| ("quality", &it.quality));
        let metrics = assessment.iter().flat_map(|it| &it.metrics).map(|(name, it)| (name.as_str(), it));
        match quality.chain(metrics).find(|(_, figure)| !figure.is_finite()) {
            Some((name, figure)) => Err(self.wrong(call, format!("its `{name}` is {figure}")).bad_input()),
            None => Ok(assessment),
        }
    }
}

#[async_trait]
impl Evaluator for Checked<dyn Evaluator> {
    async fn answer(
        &self,
        sample: &LabelledSample,
        answer: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        self.finite("answer", self.inner.answer(sample, answer).await?)
    }

    async fn context(
        &self,
        sample: &LabelledSample,
        text: &str,
    ) -> Result<Option<Assessment>, ComponentError> {
        self.finite("context", self.inner.context(sample, text).await?)
    }

    fn is_costly(&self) -> bool {
        self.inner.is_costly()
    }
}

impl Observer for Checked<dyn Observer> {
    /// Nothing comes back that could be wrong.
    fn observe(&self, event: &Event<'_>) {
        self.inner.observe(event);
    }

    fn flush(&self) -> Result<(), ComponentError> {
        self.inner.flush()
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

impl Checked<dyn Policy> {
    /// Checks `wanted` responses of at most `longest` tokens.
    fn checked(
        &self,
        responses: Vec<Response>,
        (wanted, longest): (usize, usize),
    ) -> Result<Vec<Response>, ComponentError> {
        let wrong = |message: String| Err(self.wrong("generate", message).failed());
        if responses.len() != wanted {
            return wrong(format!("it returned {} answers for {wanted}", responses.len()));
        }
        let check = |response: &Response| match response.token_ids.len() {
            tokens if tokens > longest => Some(format!("has {tokens} tokens, of at most {longest}")),
            _ => response.check().err(),
        };
        match responses.iter().find_map(check) {
            Some(reason) => wrong(format!("an answer {reason}")),
            None => Ok(responses),
        }
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

    fn busy_seconds(&self) -> Option<f64> {
        self.inner.busy_seconds()
    }

    fn reads_frames(&self) -> bool {
        self.inner.reads_frames()
    }

    fn reasoning_format(&self) -> Option<ReasoningFormat> {
        self.inner.reasoning_format()
    }

    fn encoder(&self) -> Option<Arc<dyn VideoEncoder>> {
        self.inner
            .encoder()
            .map(|inner| -> Arc<dyn VideoEncoder> { Arc::new(Checked { name: self.name.clone(), inner }) })
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let wanted = (request.n, request.sampling.max_new_tokens);
        self.checked(self.inner.generate(request).await?, wanted)
    }

    async fn generate_streaming(
        &self,
        request: GenerateRequest,
        progress: ProgressSender,
    ) -> Result<Vec<Response>, ComponentError> {
        let wanted = (request.n, request.sampling.max_new_tokens);
        self.checked(self.inner.generate_streaming(request, progress).await?, wanted)
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let continuations = request.continuations.clone();
        let wanted = continuations.len();
        let scores = self.inner.score(request).await?;
        let wrong = |message: String| Err(self.wrong("score", message).failed());
        if scores.len() != wanted {
            return wrong(format!("it scored {} continuations of {wanted}", scores.len()));
        }
        let mut both = scores.iter().zip(&continuations);
        match both.find_map(|(score, continuation)| score.check(continuation).err()) {
            Some(reason) => wrong(format!("a continuation {reason}")),
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

#[cfg(test)]
mod tests {
    use isr_api::{Continuation, FinishReason, Progress, Prompt, Sampling};
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    /// Streams one piece, and scores what it is told to.
    struct Streaming(f32);

    #[async_trait]
    impl Policy for Streaming {
        fn fingerprint(&self) -> Fingerprint {
            Fingerprint::of("streaming")
        }

        async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
            let response = Response {
                text: "a".to_owned(),
                token_ids: vec![1],
                logprobs: vec![self.0],
                finish_reason: FinishReason::Stop,
                policy: self.fingerprint(),
                reasoning: None,
            };
            Ok(vec![response; request.n])
        }

        async fn generate_streaming(
            &self,
            request: GenerateRequest,
            progress: ProgressSender,
        ) -> Result<Vec<Response>, ComponentError> {
            let _ = progress.send(Progress::Text { answer: 0, text: "a".to_owned() });
            self.generate(request).await
        }

        async fn score(&self, _: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
            Ok(vec![TokenLogProbs { token_ids: vec![1], logprobs: vec![self.0] }])
        }

        async fn train_step(
            &self,
            _: TrainStep,
            _: Arc<dyn PreferenceObjective>,
        ) -> Result<StepReport, ComponentError> {
            Err(ComponentError::failed("it does not train"))
        }

        async fn save(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
            Ok(())
        }

        async fn load(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_plugins_policy_streams_and_what_it_returns_is_checked() {
        let request =
            || GenerateRequest { prompt: Prompt::text("?"), sampling: Sampling::greedy(1), n: 1, seed: 0 };
        let (progress, mut pieces) = unbounded_channel();
        let mine = Source { name: "mine", file: Path::new("mine.so") };
        let sound = policy(mine, Arc::new(Streaming(-1.0)));
        assert_eq!(sound.generate_streaming(request(), progress.clone()).await.unwrap()[0].text, "a");
        assert_eq!(pieces.try_recv().unwrap(), Progress::Text { answer: 0, text: "a".to_owned() });
        let positive = policy(mine, Arc::new(Streaming(0.5)));
        let error = positive.generate(request()).await.unwrap_err().to_string();
        assert!(error.contains("plugin `mine`, generate: an answer has the log-prob 0.5"), "{error}");
        let none = GenerateRequest { sampling: Sampling::greedy(0), ..request() };
        let error = sound.generate(none).await.unwrap_err().to_string();
        assert!(error.contains("an answer has 1 tokens, of at most 0"), "{error}");
        let asked =
            ScoreRequest { prompt: Prompt::text("?"), continuations: vec![Continuation::Tokens(vec![2])] };
        let error = sound.score(asked).await.unwrap_err().to_string();
        assert!(
            error.contains("a continuation has 1 tokens that differ from the 1 given, first at 0"),
            "{error}"
        );
        let faulty = policy(mine, Arc::new(Streaming(f32::NAN)));
        let error = faulty.generate_streaming(request(), progress).await.unwrap_err().to_string();
        assert!(error.contains("an answer has the log-prob NaN"), "{error}");
        let asked = ScoreRequest {
            prompt: Prompt::text("?"),
            continuations: vec![Continuation::Answer("a".to_owned())],
        };
        let error = faulty.score(asked).await.unwrap_err().to_string();
        assert!(error.contains("a continuation has the log-prob NaN"), "{error}");
    }
}
