//! The judge `human`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use isr_api::{
    BuildContext, CheckpointKind, ComponentError, Fingerprint, FinishReason, Frames, FrozenPolicy,
    GenerateRequest, JudgeCase, Policy, PreferenceObjective, Response, ScoreRequest, StepReport,
    TokenLogProbs, TrainStep, Verdict, VideoInput,
};
use isr_config::registry::JudgeConfig;
use isr_judges as _;
use serde_json::json;

use crate::bench::{answers, run};

/// A policy that must not be asked.
struct Nobody;

#[async_trait]
impl Policy for Nobody {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("nobody")
    }

    async fn generate(&self, _: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        Err(ComponentError::failed("asked"))
    }

    async fn score(&self, _: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        Err(ComponentError::failed("asked"))
    }

    async fn train_step(
        &self,
        _: TrainStep,
        _: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        Err(ComponentError::failed("asked"))
    }

    async fn save(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Ok(())
    }

    async fn load(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Ok(())
    }
}

fn case(sample: usize) -> JudgeCase {
    let frames = Frames::new(1, 1, vec![0; 3], vec![0.0]).unwrap();
    let [first, second] = answers(sample).map(|text| Response {
        text,
        token_ids: vec![1],
        logprobs: vec![-1.0],
        finish_reason: FinishReason::Stop,
        policy: Fingerprint::of("p"),
        reasoning: None,
    });
    JudgeCase {
        scene: VideoInput { video: PathBuf::from("clip.mp4"), frames: Arc::new(frames), features: None },
        instruction: format!("question {sample}?"),
        context: None,
        first,
        second,
        seed: 0,
    }
}

/// What the judge of a section says of a case.
async fn judged(folder: &Path, rest: &str, case: &JudgeCase) -> Result<Verdict, ComponentError> {
    let path = folder.join("run/annotations.jsonl");
    let section = format!("type = 'human'\nannotations = '{}'\n{rest}", path.display());
    let config: Box<dyn JudgeConfig> = toml::from_str(&section).unwrap();
    config.validate().unwrap();
    let judge = config.build(&BuildContext::default()).unwrap();
    judge.judge(case, &FrozenPolicy::new(Arc::new(Nobody))).await
}

fn annotate(folder: &Path, lines: &[(&str, &str, &str)]) {
    let line = |(sample, annotator, choice): &(&str, &str, &str)| {
        let value = json!({
            "iteration": 1, "sample": sample, "choice": choice, "first_shown_first": false,
            "annotator": annotator, "seconds": 2.0,
        });
        format!("{value}\n")
    };
    fs::write(folder.join("run/annotations.jsonl"), lines.iter().map(line).collect::<String>()).unwrap();
}

#[tokio::test]
async fn a_verdict_is_the_mean_of_what_people_chose() {
    let folder = run(4);
    let lines = [
        ("s0", "ann", "first"),
        ("s1", "ann", "second"),
        ("s2", "ann", "tie"),
        ("s0", "bob", "tie"),
        ("s1", "bob", "first"),
    ];
    annotate(folder.path(), &lines);
    for (sample, p_first, consistent, votes) in [(0, 0.75, true, 2), (1, 0.5, false, 2), (2, 0.5, true, 1)]
    {
        let verdict = judged(folder.path(), "", &case(sample)).await.unwrap();
        assert_eq!(
            (verdict.p_first, verdict.consistent, verdict.votes.len()),
            (p_first, consistent, votes)
        );
        assert!(!verdict.votes[0].first_shown_first);
        let swapped = judged(folder.path(), "", &case(sample).swapped()).await.unwrap();
        assert_eq!(swapped, verdict.mirrored());
    }
    let ann = judged(folder.path(), "annotator = 'ann'", &case(1)).await.unwrap();
    assert_eq!((ann.p_first, ann.consistent), (0.0, true));
}

#[tokio::test]
async fn a_pair_that_nobody_judged_is_never_guessed() {
    let folder = run(2);
    annotate(folder.path(), &[("s0", "ann", "first")]);
    let error = judged(folder.path(), "", &case(1)).await.unwrap_err();
    assert!(matches!(error, ComponentError::BadInput(_)));
    let text = error.to_string();
    assert!(text.contains("has no choice between these two answers about clip.mp4"), "{text}");
    assert!(text.ends_with("/run`") && text.contains("isr annotate"), "{text}");
    // The same sample with another answer is another pair.
    let mut other = case(0);
    other.second.text = "something new".to_owned();
    assert!(matches!(judged(folder.path(), "", &other).await, Err(ComponentError::BadInput(_))));
    let error = judged(folder.path(), "annotator = 'bob'\nmissing = 'stop'", &case(0)).await.unwrap_err();
    assert!(matches!(error, ComponentError::Failed(_)));
    assert!(error.to_string().contains("no choice of bob between"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_empty_and_a_damaged_one_stops_the_run() {
    let folder = run(1);
    assert!(matches!(judged(folder.path(), "", &case(0)).await, Err(ComponentError::BadInput(_))));
    fs::write(folder.path().join("run/annotations.jsonl"), "{}\n").unwrap();
    let error = judged(folder.path(), "", &case(0)).await.unwrap_err();
    assert!(matches!(error, ComponentError::Failed(_)) && error.to_string().contains("line 1"), "{error}");
}
