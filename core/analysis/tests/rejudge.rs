//! Judging again, on a run with a policy whose weights are a number.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_analysis::audit::{AuditError, Rejudging, Seen, SeenVideo};
use isr_api::records::{QuarantineRecord, ResponseRecord, VerdictRecord};
use isr_api::{
    CheckpointKind, ComponentError, Error, Fingerprint, FinishReason, Frames, FrozenPolicy,
    GenerateRequest, Judge, JudgeCase, Policy, PreferenceObjective, Response, ScoreRequest, StepReport,
    Streams, TokenLogProbs, TrainStep, Verdict, VideoReader, VisualContext,
};
use isr_run::store::read_journal;
use isr_run::{Look, VideoCache};
use serde::Serialize;
use tempfile::{TempDir, tempdir};

struct Weights(Mutex<String>);

#[async_trait]
impl Policy for Weights {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.0.lock().unwrap().as_str())
    }
    async fn generate(&self, _: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        Err(ComponentError::failed("nobody generates"))
    }
    async fn score(&self, _: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        Err(ComponentError::failed("nobody scores"))
    }
    async fn train_step(
        &self,
        _: TrainStep,
        _: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        Err(ComponentError::failed("nobody trains"))
    }
    async fn save(&self, _: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        Err(ComponentError::failed("nobody saves"))
    }
    async fn load(&self, dir: &Path, _: CheckpointKind) -> Result<(), ComponentError> {
        *self.0.lock().unwrap() = fs::read_to_string(dir.join("weights")).unwrap();
        Ok(())
    }
}

/// Each video is one pixel of its own brightness.
struct Pixel;

#[async_trait]
impl VideoReader for Pixel {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("pixel")
    }
    async fn read(&self, video: &Path) -> Result<Frames, ComponentError> {
        let brightness = video.to_str().unwrap().parse().map_err(ComponentError::bad_input)?;
        Frames::new(1, 1, vec![brightness; 3], vec![0.0])
    }
}

/// Each draw is one pixel of a brightness of its own, from 1 to 90.
struct DrawnPixel;

fn drawn(seed: u64) -> u8 {
    1 + (seed % 90) as u8
}

#[async_trait]
impl VideoReader for DrawnPixel {
    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of("drawn pixel")
    }
    async fn read(&self, _: &Path) -> Result<Frames, ComponentError> {
        Err(ComponentError::failed("a run's judge saw draws"))
    }
    fn draws_frames(&self) -> bool {
        true
    }
    async fn draw(&self, _: &Path, seed: u64) -> Result<Frames, ComponentError> {
        Frames::new(1, 1, vec![drawn(seed); 3], vec![0.0])
    }
}

/// Says what it was shown: the brightness in percent, with half of that where there is a context.
struct Witness;

#[async_trait]
impl Judge for Witness {
    async fn judge(&self, case: &JudgeCase, _: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        let p_first = f64::from(case.scene.frames.rgb[0]) / 100.0;
        assert_ne!(case.seed, 13, "an unlucky seed");
        let p_first = if case.context.is_some() { p_first / 2.0 } else { p_first };
        Ok(Verdict { p_first, votes: Vec::new(), consistent: true })
    }
}

fn journal<T: Serialize>(folder: &Path, name: &str, lines: impl IntoIterator<Item = T>) {
    fs::create_dir_all(folder).unwrap();
    let text: String = lines.into_iter().map(|line| serde_json::to_string(&line).unwrap() + "\n").collect();
    fs::write(folder.join(name), text).unwrap();
}

/// Two iterations on these videos; the second was judged by the weights `one`.
fn run(videos: &[&str]) -> TempDir {
    let folder = tempdir().unwrap();
    for (iteration, weights) in [(1, "zero"), (2, "one")] {
        let dir = folder.path().join(format!("iteration-0{iteration}"));
        let each = || videos.iter().enumerate();
        let response = |text: &str| Response {
            text: text.to_owned(),
            token_ids: vec![1],
            logprobs: vec![-1.0],
            finish_reason: FinishReason::Stop,
            policy: Fingerprint::of(weights),
            reasoning: None,
        };
        journal(
            &dir,
            "responses.jsonl",
            each().map(|(index, video)| ResponseRecord {
                sample: index.to_string().as_str().into(),
                video: (*video).to_owned(),
                instruction: "?".to_owned(),
                seed: 0,
                responses: vec![response("a"), response("b")],
            }),
        );
        journal(
            &dir,
            "verdicts.jsonl",
            each().map(|(index, _)| VerdictRecord {
                sample: index.to_string().as_str().into(),
                seed: index as u64,
                context_of: None,
                context: Some(iteration),
                compared: [0, 1],
                verdict: Verdict { p_first: 0.9, votes: Vec::new(), consistent: true },
                comparisons: Vec::new(),
                oracle: false,
            }),
        );
        journal(
            &dir,
            "contexts.jsonl",
            each().map(|(_, video)| VisualContext {
                video: (*video).to_owned(),
                iteration,
                parent: None,
                parent_of: None,
                text: "it is bright.".to_owned(),
            }),
        );
        fs::create_dir(dir.join("checkpoint")).unwrap();
        fs::write(dir.join("checkpoint/weights"), if iteration == 1 { "one" } else { "two" }).unwrap();
    }
    folder
}

fn rejudging(run: &Path, seen: Seen) -> Rejudging {
    Rejudging {
        run: run.to_owned(),
        out: run.join("audits/x"),
        seed: 5,
        iterations: vec![2, 1, 2],
        judge: Arc::new(Witness),
        oracle: true,
        policy: Arc::new(Weights(Mutex::new("zero".to_owned()))),
        scenes: Arc::new(VideoCache::new(seen.through(Arc::new(Pixel)), None, 1)),
        seen,
        samples: None,
        concurrency: 2,
        observers: Vec::new(),
        cancel: Default::default(),
    }
}

fn said(run: &Path) -> Vec<f64> {
    let path: PathBuf = run.join("audits/x/iteration-02/verdicts.jsonl");
    let verdicts: Vec<VerdictRecord> = read_journal(&path).unwrap();
    assert!(verdicts.iter().all(|record| record.oracle && record.verdict.p_first <= 1.0));
    verdicts.iter().map(|record| (record.verdict.p_first * 1000.0).round()).collect()
}

#[tokio::test]
async fn a_judge_is_shown_what_it_is_to_be_shown() {
    for (video, context, expected) in [
        (SeenVideo::Recorded, true, [50.0, 100.0, 50.0]),
        (SeenVideo::Recorded, false, [100.0, 200.0, 100.0]),
        (SeenVideo::Other, true, [100.0, 50.0, 100.0]),
    ] {
        let folder = run(&["10", "20", "10"]);
        rejudging(folder.path(), Seen { video, context }).run().await.unwrap();
        assert_eq!(said(folder.path()), expected, "{video:?} {context}");
    }
    // Grey is more than this judge takes for a probability, so each case is quarantined; with the context
    // it is not.
    let folder = run(&["10", "20"]);
    rejudging(folder.path(), Seen { video: SeenVideo::Blank, context: true }).run().await.unwrap();
    assert_eq!(said(folder.path()), [640.0, 640.0]);
}

#[tokio::test]
async fn what_cannot_be_judged_is_quarantined_once_and_the_rest_is_judged_once() {
    let folder = run(&["10", "dark", "130", "20"]);
    let seen = Seen { video: SeenVideo::Recorded, context: false };
    let mut short = rejudging(folder.path(), seen);
    short.samples = Some(3);
    short.run().await.unwrap();
    assert_eq!(said(folder.path()), [100.0]);
    rejudging(folder.path(), seen).run().await.unwrap();
    assert_eq!(said(folder.path()), [100.0, 200.0]);
    let path = folder.path().join("audits/x/iteration-02/quarantine.jsonl");
    let quarantine: Vec<QuarantineRecord> = read_journal(&path).unwrap();
    let told: Vec<_> = quarantine.iter().map(|it| (it.stage.as_str(), it.subject.as_str())).collect();
    assert_eq!(told, [("judge", "1"), ("judge", "2")]);
    assert!(quarantine[1].reason.contains("1.3, not in [0, 1]"), "{quarantine:?}");
}

#[tokio::test]
async fn a_panic_is_an_error_that_names_the_sample_and_what_was_judged_is_kept() {
    let folder = run(&["10"; 20]);
    let seen = Seen { video: SeenVideo::Recorded, context: false };
    let error = rejudging(folder.path(), seen).run().await.unwrap_err();
    let AuditError::Store(Error::Component { subject, .. }) = &error else { panic!("{error}") };
    assert_eq!(subject, "13");
    assert!(error.to_string().contains("an unlucky seed"), "{error}");
    let path = folder.path().join("audits/x/iteration-01/verdicts.jsonl");
    assert_eq!(read_journal::<VerdictRecord>(&path).unwrap().len(), 13);
}

#[tokio::test]
async fn other_weights_one_video_and_a_stop_are_named() {
    let folder = run(&["10", "10"]);
    let other = rejudging(folder.path(), Seen { video: SeenVideo::Other, context: true }).run().await;
    assert!(matches!(other, Err(AuditError::OneVideo { iteration: 1, .. })), "{other:?}");

    let seen = Seen { video: SeenVideo::Recorded, context: true };
    let mut stopped = rejudging(folder.path(), seen);
    stopped.cancel.cancel();
    assert!(matches!(stopped.run().await, Err(AuditError::Store(Error::Cancelled))));
    stopped.cancel = Default::default();
    stopped.policy = Arc::new(Weights(Mutex::new("another model".to_owned())));
    let error = stopped.run().await.unwrap_err().to_string();
    assert!(error.contains("iteration 1: the model is not the one that answered"), "{error}");

    fs::remove_dir_all(folder.path().join("iteration-01/checkpoint")).unwrap();
    let error = rejudging(folder.path(), seen).run().await.unwrap_err().to_string();
    assert!(error.contains("iteration-01/checkpoint, which judged it, is not there"), "{error}");
}

#[tokio::test]
async fn drawn_frames_are_those_that_the_runs_judge_saw() {
    let seen = Seen { video: SeenVideo::Recorded, context: false };
    let folder = run(&["a", "b", "a"]);
    let scenes = |seen: Seen| Arc::new(VideoCache::new(seen.through(Arc::new(DrawnPixel)), None, 1));
    Rejudging { scenes: scenes(seen), ..rejudging(folder.path(), seen) }.run().await.unwrap();
    let brightness = |video: &str| f64::from(drawn(Streams::new(5).seed(2, "frames", video))) * 10.0;
    let [a, b] = ["a", "b"].map(brightness);
    assert!(a != b && brightness("a") != f64::from(drawn(Streams::new(5).seed(1, "frames", "a"))) * 10.0);
    assert_eq!(said(folder.path()), [a, b, a]);
    // A blank video has the frames of the draw, without their pixels.
    let blank = Seen { video: SeenVideo::Blank, context: false };
    let (scenes, look) = (scenes(blank), Look::Drawn { streams: Streams::new(5), iteration: 2 });
    assert_eq!(scenes.open(Path::new("a"), look).await.unwrap().frames.rgb, [128; 3]);
}
