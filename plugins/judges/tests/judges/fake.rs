//! A policy that answers as a test tells it to, and remembers what it was asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_api::{
    BuildContext, CheckpointKind, ComponentError, Fingerprint, FinishReason, Frames, FrozenPolicy,
    GenerateRequest, Judge, JudgeCase, Policy, PreferenceObjective, Response, ScoreRequest, StepReport,
    TokenLogProbs, TrainStep, Verdict, VideoInput, VisualContext,
};
use isr_config::registry::JudgeConfig;

/// The reply to a request.
type Replies = Box<dyn Fn(&GenerateRequest) -> String + Send + Sync>;

/// What a fake was asked and what it answers.
pub(crate) struct Fake {
    replies: Replies,
    asked: Mutex<Vec<GenerateRequest>>,
}

impl Fake {
    /// Answers with whatever the function says.
    pub(crate) fn replying(
        replies: impl Fn(&GenerateRequest) -> String + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { replies: Box::new(replies), asked: Mutex::default() })
    }

    /// Answers with one text.
    pub(crate) fn saying(text: &'static str) -> Arc<Self> {
        Self::replying(move |_| text.to_owned())
    }

    /// The view that judges get.
    pub(crate) fn frozen(self: &Arc<Self>) -> FrozenPolicy {
        FrozenPolicy::new(Arc::clone(self) as Arc<dyn Policy>)
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<GenerateRequest> {
        self.asked.lock().unwrap().clone()
    }

    /// The text of every prompt so far.
    pub(crate) fn prompts(&self) -> Vec<String> {
        self.asked().iter().map(|request| request.prompt.transcript()).collect()
    }

    /// What a judge says of a case.
    pub(crate) async fn judge(
        self: &Arc<Self>,
        judge: &Arc<dyn Judge>,
        case: &JudgeCase,
    ) -> Result<Verdict, ComponentError> {
        judge.judge(case, &self.frozen()).await
    }
}

#[async_trait]
impl Policy for Fake {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("fake")
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        let text = (self.replies)(&request);
        self.asked.lock().unwrap().push(request);
        Ok(vec![response(&text)])
    }

    async fn score(&self, _: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        Err(ComponentError::failed("a fake does not score"))
    }

    async fn train_step(
        &self,
        _: TrainStep,
        _: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        Err(ComponentError::failed("a fake does not train"))
    }

    async fn save(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Ok(())
    }

    async fn load(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Ok(())
    }
}

fn response(text: &str) -> Response {
    Response {
        text: text.to_owned(),
        token_ids: vec![1],
        logprobs: vec![-0.5],
        finish_reason: FinishReason::Stop,
        policy: Fingerprint::of("fake"),
    }
}

/// A case of these two answers.
pub(crate) fn case(first: &str, second: &str) -> JudgeCase {
    let frames = Frames {
        width: 2,
        height: 1,
        rgb: vec![255, 0, 0, 0, 0, 255, 0, 255, 0, 9, 9, 9],
        timestamps: vec![0.0, 1.0],
    };
    let scene =
        VideoInput { video: PathBuf::from("clips/7.mp4"), frames: Arc::new(frames), features: None };
    let text = "a bar moves.".to_owned();
    let context = Some(VisualContext { video: scene.key(), iteration: 2, parent: Some(1), text });
    JudgeCase {
        scene,
        instruction: "what colour is the bar?".to_owned(),
        context,
        first: response(first),
        second: response(second),
        seed: 11,
    }
}

/// The config of a section.
pub(crate) fn parse(section: &str) -> Result<Box<dyn JudgeConfig>, String> {
    toml::from_str(section).map_err(|error| error.to_string())
}

/// The judge of a section.
pub(crate) fn judge(section: &str) -> Arc<dyn Judge> {
    let config = parse(section).unwrap();
    config.validate().unwrap();
    config.build(&BuildContext::default()).unwrap()
}

/// What is wrong with a section that parses.
pub(crate) fn refusal(section: &str) -> String {
    parse(section).unwrap().validate().unwrap_err()
}
