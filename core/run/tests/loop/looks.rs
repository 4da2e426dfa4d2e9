//! Readers that draw frames: an iteration sees a video by one draw, from its answers to its training, and the next one by
//! another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use isr_api::{
    CheckpointKind, ComponentError, Fingerprint, FrozenPolicy, GenerateRequest, Judge, JudgeCase, Part,
    Policy, PreferenceObjective, Prompt, Response, RetrospectionCase, Retrospector, ScoreRequest,
    StepReport, Streams, TokenLogProbs, TrainStep, Verdict, VideoInput,
};
use isr_config::ReferenceSource;
use isr_run::Components;
use isr_run::stage_cache::StageCache;

use crate::bench::{Fakes, Settings, assert_same, run_shared, run_under, run_with, scratch, tree};
use crate::control::{Act, Call, Control};
use crate::fakes::{AllViews, drawn_time};

/// A run that scores all views, and recomputes references.
fn settings() -> Settings {
    let mut settings =
        Settings { draws: true, objective: Arc::new(AllViews), ..Settings::with_snapshots() };
    settings.train.reference = ReferenceSource::Recompute;
    settings
}

/// What was shown: who was shown it, time of the first frame as bits, video.
#[derive(Default)]
struct Shown(Mutex<Vec<(&'static str, u64, String)>>);

impl Shown {
    fn scene(&self, to: &'static str, scene: &VideoInput) {
        self.0.lock().unwrap().push((to, scene.frames.timestamps[0].to_bits(), scene.key()));
    }

    fn prompt(&self, to: &'static str, prompt: &Prompt) {
        for part in prompt.messages.iter().flat_map(|message| &message.parts) {
            if let Part::Video(scene) = part {
                self.scene(to, scene);
            }
        }
    }
}

/// A component that notes what it is shown.
struct Noting<T: ?Sized>(Arc<Shown>, Arc<T>);

#[async_trait]
impl Retrospector for Noting<dyn Retrospector> {
    async fn describe(
        &self,
        case: &RetrospectionCase,
        on: &FrozenPolicy,
    ) -> Result<String, ComponentError> {
        self.0.scene("retrospector", &case.scene);
        self.1.describe(case, on).await
    }
}

#[async_trait]
impl Judge for Noting<dyn Judge> {
    async fn judge(&self, case: &JudgeCase, policy: &FrozenPolicy) -> Result<Verdict, ComponentError> {
        self.0.scene("judge", &case.scene);
        self.1.judge(case, policy).await
    }
}

#[async_trait]
impl Policy for Noting<dyn Policy> {
    fn fingerprint(&self) -> Fingerprint {
        self.1.fingerprint()
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        self.0.prompt("answer", &request.prompt);
        self.1.generate(request).await
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        self.0.prompt("reference", &request.prompt);
        self.1.score(request).await
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        for example in &step.examples {
            self.0.prompt("training", &example.prompt);
            self.0.prompt("corrupted training", &example.corrupted.as_ref().unwrap().prompt);
        }
        self.1.train_step(step, objective).await
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.1.save(dir, what).await
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.1.load(dir, what).await
    }
}

fn noting(settings: &Settings, control: &Arc<Control>, shown: &Arc<Shown>) -> Components {
    let Components { policy, judge, retrospector, .. } = Fakes::of(settings, control).components;
    Components {
        policy: Arc::new(Noting(Arc::clone(shown), policy)),
        judge: Arc::new(Noting(Arc::clone(shown), judge)),
        retrospector: retrospector.map(|it| Arc::new(Noting(Arc::clone(shown), it)) as Arc<_>),
        ..Fakes::of(settings, control).components
    }
}

#[tokio::test]
async fn all_that_an_iteration_shows_of_a_video_is_one_draw_and_each_has_its_own() {
    let (settings, dir, shown) = (settings(), scratch(), Arc::<Shown>::default());
    let control = Arc::default();
    run_with(dir.path(), &settings, noting(&settings, &control, &shown)).await.unwrap();
    // Which draw is of which iteration.
    let mut of_time = HashMap::new();
    for (iteration, video) in (1..=2).flat_map(|t| (0..4).map(move |video| (t, video))) {
        let video = format!("clips/s{video}.mp4");
        let seed = Streams::new(settings.seed).seed(iteration, "frames", &video);
        of_time.insert((drawn_time(seed).to_bits(), video), iteration);
    }
    let mut seen: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let mut last = 0;
    for (to, time, video) in shown.0.lock().unwrap().iter() {
        let iteration = match video.starts_with("clips/e") {
            true => {
                assert_eq!(f64::from_bits(*time), 0.0, "held-out {video} is seen without a draw");
                0
            }
            false => of_time[&(*time, video.clone())],
        };
        // Stages follow each other, so a draw of an earlier iteration would come behind one of a later.
        assert!(iteration == 0 || iteration >= last, "{to}: {video} by the draw of iteration {iteration}");
        last = last.max(iteration);
        seen.entry(to).or_default().insert(iteration);
    }
    let each = BTreeSet::from([1, 2]);
    for to in ["retrospector", "judge", "reference", "training", "corrupted training"] {
        assert_eq!(seen[to], each, "{to}");
    }
    assert_eq!(seen["answer"], BTreeSet::from([0, 1, 2]));
    // Decoded once an iteration, and held-out videos once.
    let draws: Vec<String> = control.calls().into_iter().filter(|call| call.starts_with("draw")).collect();
    assert_eq!((draws.len(), draws.iter().collect::<BTreeSet<_>>().len()), (8, 8), "{draws:?}");
    assert!(control.calls().iter().all(|call| !call.starts_with("read clips/s")));
    assert_eq!(control.calls().iter().filter(|call| call.starts_with("read clips/e")).count(), 2);
}

#[tokio::test]
async fn another_seed_draws_other_frames_and_the_same_draws_the_same() {
    let draws = async |seed: u64| -> BTreeSet<String> {
        let (control, dir) = (Arc::default(), scratch());
        run_under(dir.path(), &Settings { seed, ..settings() }, &control).await.unwrap();
        control.calls().into_iter().filter(|call| call.starts_with("draw")).collect()
    };
    let (one, again, other) = (draws(1).await, draws(1).await, draws(2).await);
    assert_eq!(one, again);
    assert!(one.len() == 8 && one.is_disjoint(&other));
}

#[tokio::test]
async fn a_run_that_is_cut_goes_on_with_the_frames_of_its_iteration() {
    let (settings, reference, control) = (settings(), scratch(), Arc::default());
    run_under(reference.path(), &settings, &control).await.unwrap();
    let (reference, calls) = (tree(reference.path()), control.calls().len());
    for at in (0..calls).step_by(3) {
        let dir = scratch();
        let cut = move |call: &Call<'_>| if call.number == at { Act::Fail("cut") } else { Act::Work };
        for control in [Control::with(cut), Control::default()] {
            let _ = run_under(dir.path(), &settings, &Arc::new(control)).await;
        }
        assert_same(&reference, &tree(dir.path()), &format!("cut at call {at}"));
    }
}

#[tokio::test]
async fn runs_share_the_stages_of_drawn_frames_by_seed_and_iteration() {
    let (settings, alone, shared) = (settings(), scratch(), scratch());
    run_under(alone.path(), &settings, &Arc::default()).await.unwrap();
    let run = async |seed: u64| {
        let (settings, control, dir) = (Settings { seed, ..settings.clone() }, Arc::default(), scratch());
        let cache = StageCache::new(shared.path(), settings.value(), Fingerprint::of("this program"));
        let components = Fakes::of(&settings, &control).components;
        run_shared(dir.path(), &settings, components, cache).await.unwrap();
        let work = ["draw", "generate", "describe", "judge", "train"];
        let is_work = |call: &String| work.iter().any(|name| call.starts_with(name));
        (tree(dir.path()), control.calls().into_iter().filter(is_work).count())
    };
    let (first, second) = (run(settings.seed).await, run(settings.seed).await);
    assert_same(&tree(alone.path()), &first.0, "the run that leaves its stages");
    assert_same(&first.0, &second.0, "the run that takes them over");
    assert!(first.1 > 0 && second.1 == 0, "{} {}", first.1, second.1);
    assert!(run(settings.seed + 1).await.1 > 0);
}
