//! A policy that answers as a test tells it to, and remembers what it was asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Continuation, Fingerprint, FinishReason, Frames, FrozenPolicy,
    GenerateRequest, JudgeCase, Part, Policy, PreferenceObjective, Prompt, Response, Role, ScoreRequest,
    StepReport, TokenLogProbs, TrainStep, VideoInput, VisualContext,
};

/// Per-token log-probs of each choice, given the text of the prompt.
type Scorer = Box<dyn Fn(&str) -> Vec<Vec<f32>> + Send + Sync>;

/// What a fake was asked and what it answers.
pub(crate) struct Fake {
    /// What `generate` answers.
    pub(crate) text: String,
    scorer: Scorer,
    /// What `generate` was asked.
    pub(crate) generated: Mutex<Vec<GenerateRequest>>,
    /// What `score` was asked.
    pub(crate) scored: Mutex<Vec<ScoreRequest>>,
}

impl Fake {
    /// Answers with a text; scores nothing.
    pub(crate) fn saying(text: &str) -> Arc<Self> {
        Self::new(text, Box::new(|_| Vec::new()))
    }

    /// Scores the choices.
    pub(crate) fn scoring(scorer: impl Fn(&str) -> Vec<Vec<f32>> + Send + Sync + 'static) -> Arc<Self> {
        Self::new("", Box::new(scorer))
    }

    fn new(text: &str, scorer: Scorer) -> Arc<Self> {
        let (generated, scored) = Default::default();
        Arc::new(Self { text: text.to_owned(), scorer, generated, scored })
    }

    /// The view that judges and retrospectors get.
    pub(crate) fn frozen(self: &Arc<Self>) -> FrozenPolicy {
        FrozenPolicy::new(Arc::clone(self) as Arc<dyn Policy>)
    }

    /// Every prompt that was scored.
    pub(crate) fn judged(&self) -> Vec<Prompt> {
        self.scored.lock().unwrap().iter().map(|request| request.prompt.clone()).collect()
    }
}

#[async_trait]
impl Policy for Fake {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("fake")
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        self.generated.lock().unwrap().push(request);
        Ok(vec![response(&self.text)])
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        let rows = (self.scorer)(&request.prompt.transcript());
        let scores = |logprobs: Vec<f32>| TokenLogProbs { token_ids: vec![0; logprobs.len()], logprobs };
        self.scored.lock().unwrap().push(request);
        Ok(rows.into_iter().map(scores).collect())
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

/// A sampled answer.
pub(crate) fn response(text: &str) -> Response {
    Response {
        text: text.to_owned(),
        token_ids: vec![1],
        logprobs: vec![-0.5],
        finish_reason: FinishReason::Stop,
        policy: Fingerprint::of("fake"),
    }
}

/// A video of one black pixel.
pub(crate) fn scene() -> VideoInput {
    let frames = Frames { width: 1, height: 1, rgb: vec![0; 3], timestamps: vec![0.0] };
    VideoInput { video: PathBuf::from("clips/7.mp4"), frames: Arc::new(frames), features: None }
}

/// A description from iteration 2.
pub(crate) fn description(text: &str) -> VisualContext {
    VisualContext { video: scene().key(), iteration: 2, parent: Some(1), text: text.to_owned() }
}

/// A case with two different answers.
pub(crate) fn case(context: Option<&str>) -> JudgeCase {
    JudgeCase {
        scene: scene(),
        instruction: "what colour is the bar?".to_owned(),
        context: context.map(description),
        first: response("bar is red."),
        second: response("bar is blue. it moves."),
        seed: 11,
    }
}

/// Each message as `role: text`, videos as `<video>` followed by a newline.
pub(crate) fn written(prompt: &Prompt) -> String {
    let message = |message: &isr_api::Message| {
        let parts = message.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Video(_) => "<video>\n",
        });
        let role = match message.role {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        format!("[{role}] {}", parts.collect::<String>())
    };
    prompt.messages.iter().map(message).collect::<Vec<_>>().join("\n")
}

/// The openings that a score request names.
pub(crate) fn openings(request: &ScoreRequest) -> Vec<&str> {
    let mut openings = Vec::new();
    for continuation in &request.continuations {
        let Continuation::Prefix(text) = continuation else {
            panic!("a verdict is the opening of a reply");
        };
        openings.push(text.as_str());
    }
    openings
}
