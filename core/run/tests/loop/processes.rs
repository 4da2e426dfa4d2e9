//! One loop in several processes, which are tasks here: the same bytes as in one, also where it was cut.

use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

use async_trait::async_trait;
use futures::future::join_all;
use isr_api::records::Summary;
use isr_api::{
    CheckpointKind, ComponentError, Error, Event, Fingerprint, GenerateRequest, Observer, Policy,
    PreferenceObjective, Response, ScoreRequest, StepReport, TokenLogProbs, TrainExample, TrainStep,
};
use isr_config::to_toml;
use isr_run::store::RunDir;
use isr_testing::ThreadGroup;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::bench::{Fakes, Log, Settings, Tree, assert_same, loop_in, run_under, scratch, tree};
use crate::control::{Act, Call, Control};
use crate::fake_policy::FakePolicy;

/// Runs in `count` processes under the control of each; returns what each ended with, by rank.
async fn in_processes(
    dir: &Path,
    settings: &Settings,
    controls: &[Arc<Control>],
    parallel: bool,
) -> Vec<Result<Summary, Error>> {
    in_processes_with(dir, settings, controls, parallel, &vec![CancellationToken::new(); controls.len()])
        .await
}

/// The same, each stopped by a token.
async fn in_processes_with(
    dir: &Path,
    settings: &Settings,
    controls: &[Arc<Control>],
    parallel: bool,
    stops: &[CancellationToken],
) -> Vec<Result<Summary, Error>> {
    let groups = ThreadGroup::members(controls.len());
    let meeting = Meeting::new(controls.len());
    let value = settings.value();
    let mut leader = Some(RunDir::open(dir, &value, &to_toml(&value).unwrap()).unwrap());
    let runs = groups.into_iter().zip(controls).zip(stops).map(|((group, control), stop)| {
        let store = leader.take().unwrap_or_else(|| RunDir::join(dir).unwrap());
        let Fakes { mut components, policy } = Fakes::of(settings, control);
        if parallel {
            let rank = group.rank();
            components.policy = Arc::new(Parallel { policy, rank, meeting: Arc::clone(&meeting) });
        }
        // Each is cancelled by itself.
        let settings = Settings { cancel: CancellationToken::new(), ..settings.clone() };
        let inner = loop_in(store, &settings, components).with_processes(group).stopped_by(stop.clone());
        tokio::spawn(async move { inner.run().await })
    });
    join_all(runs.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).collect()
}

fn controls(count: usize) -> Vec<Arc<Control>> {
    (0..count).map(|rank| Arc::new(Control::default().delayed(rank as u64 + 1))).collect()
}

async fn tree_of_one(settings: &Settings) -> Tree {
    let dir = scratch();
    run_under(dir.path(), settings, &Arc::default()).await.unwrap();
    tree(dir.path())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_see_the_frames_that_one_would() {
    let settings = Settings { draws: true, ..Settings::with_snapshots() };
    let reference = tree_of_one(&settings).await;
    for parallel in [false, true] {
        let dir = scratch();
        for end in in_processes(dir.path(), &settings, &controls(3), parallel).await {
            end.unwrap();
        }
        assert_same(&reference, &tree(dir.path()), "three processes");
    }
}

/// A policy whose processes put the parts of each batch together, in which every one must have its own.
struct Parallel {
    policy: Arc<FakePolicy>,
    rank: usize,
    meeting: Arc<Meeting>,
}

struct Meeting {
    barrier: Barrier,
    parts: Mutex<Vec<Vec<TrainExample>>>,
}

impl Meeting {
    fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { barrier: Barrier::new(count), parts: Mutex::new(vec![Vec::new(); count]) })
    }
}

#[async_trait]
impl Policy for Parallel {
    fn fingerprint(&self) -> Fingerprint {
        self.policy.fingerprint()
    }

    fn trains_in_parallel(&self) -> bool {
        true
    }

    async fn generate(&self, request: GenerateRequest) -> Result<Vec<Response>, ComponentError> {
        self.policy.generate(request).await
    }

    async fn score(&self, request: ScoreRequest) -> Result<Vec<TokenLogProbs>, ComponentError> {
        self.policy.score(request).await
    }

    async fn train_step(
        &self,
        step: TrainStep,
        objective: Arc<dyn PreferenceObjective>,
    ) -> Result<StepReport, ComponentError> {
        let (meeting, rank, own) = (Arc::clone(&self.meeting), self.rank, step.examples.clone());
        let joined = spawn_blocking(move || {
            meeting.parts.lock().unwrap()[rank] = own;
            meeting.barrier.wait();
            let joined: Vec<TrainExample> =
                meeting.parts.lock().unwrap().iter().flatten().cloned().collect();
            meeting.barrier.wait();
            joined
        });
        let examples = joined.await.unwrap();
        self.policy.train_step(TrainStep { examples, ..step }, objective).await
    }

    async fn save(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        if self.rank == 0 { self.policy.save(dir, what).await } else { Ok(()) }
    }

    async fn load(&self, dir: &Path, what: CheckpointKind) -> Result<(), ComponentError> {
        self.policy.load(dir, what).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_bytes_are_those_of_one_process() {
    let settings = Settings::with_snapshots();
    let reference = tree_of_one(&settings).await;
    for count in 1..=4 {
        for parallel in [false, true] {
            let dir = scratch();
            let ends = in_processes(dir.path(), &settings, &controls(count), parallel).await;
            let summaries: Vec<Summary> = ends.into_iter().map(Result::unwrap).collect();
            assert!(summaries.iter().all(|summary| *summary == summaries[0]));
            assert_same(&reference, &tree(dir.path()), &format!("{count} processes, parallel: {parallel}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_process_takes_items_and_what_one_rejects_is_quarantined_in_order() {
    let rejects = |call: &Call<'_>| match call.name.starts_with("read") && call.name.contains("s1") {
        true => Act::BadInput("torn"),
        false => Act::Work,
    };
    let settings = Settings::default();
    let dir = scratch();
    run_under(dir.path(), &settings, &Arc::new(Control::with(rejects))).await.unwrap();
    let reference = tree(dir.path());
    assert!(reference.keys().any(|name| name.ends_with("quarantine.jsonl")));
    let controls: Vec<_> = (0..3).map(|rank| Arc::new(Control::with(rejects).delayed(rank))).collect();
    let (dir, log) = (scratch(), Arc::new(Log::default()));
    let settings = Settings { observers: vec![log.clone()], ..settings };
    for end in in_processes(dir.path(), &settings, &controls, true).await {
        end.unwrap();
    }
    assert_same(&reference, &tree(dir.path()), "3 processes");
    for control in &controls {
        assert!(control.calls().iter().any(|call| call.starts_with("generate")), "each samples");
    }
    // As many items are told of as one process tells of, and no more.
    let items =
        |stage: &str| log.lines().iter().filter(|line| line.contains(&format!("{stage} item"))).count();
    let results = reference.iter().filter(|(name, _)| name.ends_with("responses.jsonl"));
    let lines = results.filter_map(|(_, bytes)| bytes.as_ref()).flatten().filter(|&&byte| byte == b'\n');
    assert_eq!(items("respond"), lines.count());
    assert!(log.lines().iter().any(|line| line.starts_with("StageDivided")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_run_whose_processes_died_goes_on_with_another_number() {
    let settings = Settings::with_snapshots();
    let reference = tree_of_one(&settings).await;
    let mut failed = 0;
    for fail_at in (3..60).step_by(8) {
        let dir = scratch();
        let failing = |rank: usize| match rank {
            1 => Control::with(
                move |call| if call.number == fail_at { Act::Fail("gone") } else { Act::Work },
            ),
            _ => Control::default(),
        };
        let controls: Vec<_> = (0..3).map(|rank| Arc::new(failing(rank).delayed(rank as u64))).collect();
        let ends = in_processes(dir.path(), &settings, &controls, false).await;
        // Process 1 may have had fewer calls than that.
        if ends.iter().all(Result::is_ok) {
            continue;
        }
        failed += 1;
        assert!(ends.iter().all(Result::is_err), "all stop with the one that failed, at {fail_at}");
        let count = fail_at % 4 + 1;
        let again = match count {
            1 => vec![run_under(dir.path(), &settings, &Arc::default()).await],
            _ => in_processes(dir.path(), &settings, &self::controls(count), true).await,
        };
        for end in again {
            end.unwrap();
        }
        assert_same(&reference, &tree(dir.path()), &format!("failed at {fail_at}, continued by {count}"));
    }
    assert!(failed >= 3, "{failed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_is_asked_to_stop_stops_all_behind_the_same_step() {
    let mut settings = Settings::default();
    settings.train.snapshot_every = None;
    let reference = tree_of_one(&settings).await;
    let dir = scratch();
    let stops: Vec<_> = (0..3).map(|_| CancellationToken::new()).collect();
    let asked = stops[1].clone();
    let asks = Control::with(move |call| {
        if call.name == "train 2" {
            asked.cancel();
        }
        Act::Work
    });
    let controls = [Arc::default(), Arc::new(asks), Arc::default()];
    let ends = in_processes_with(dir.path(), &settings, &controls, true, &stops).await;
    assert!(ends.iter().all(|end| matches!(end, Err(Error::Cancelled))), "{ends:?}");
    let control = Arc::<Control>::default();
    run_under(dir.path(), &settings, &control).await.unwrap();
    let first = control.calls().into_iter().find(|call| call.starts_with("train "));
    assert_eq!(first.as_deref(), Some("train 3"));
    assert_same(&reference, &tree(dir.path()), "stopped behind step 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_differ_are_refused_by_name() {
    let (dir, settings) = (scratch(), Settings::default());
    let value = settings.value();
    let store = RunDir::open(dir.path(), &value, &to_toml(&value).unwrap()).unwrap();
    let groups = ThreadGroup::members(2);
    let leader = loop_in(store, &settings, Fakes::new(&Arc::default()).components);
    let mut components = Fakes::new(&Arc::default()).components;
    components.policy = Arc::new(FakePolicy::new([0.0; 4], Arc::default()));
    let other = loop_in(RunDir::join(dir.path()).unwrap(), &settings, components);
    let mut groups = groups.into_iter();
    let (leader, other) =
        (leader.with_processes(groups.next().unwrap()), other.with_processes(groups.next().unwrap()));
    let (leader, other) =
        (tokio::spawn(async move { leader.run().await }), tokio::spawn(async move { other.run().await }));
    for end in [leader.await.unwrap(), other.await.unwrap()] {
        let text = end.unwrap_err().to_string();
        assert!(
            text.contains("process 1 differs from process 0 in the starting model's weights"),
            "{text}"
        );
    }
    assert!(!dir.path().join("fingerprints.json").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_the_first_process_reports() {
    struct Counting(Mutex<usize>);
    impl Observer for Counting {
        fn observe(&self, event: &Event<'_>) {
            *self.0.lock().unwrap() += usize::from(matches!(event, Event::RunFinished));
        }
    }
    let counting = Arc::new(Counting(Mutex::default()));
    let settings = Settings { observers: vec![counting.clone()], ..Settings::default() };
    let dir = scratch();
    for end in in_processes(dir.path(), &settings, &controls(3), false).await {
        end.unwrap();
    }
    assert_eq!(*counting.0.lock().unwrap(), 1);
}
