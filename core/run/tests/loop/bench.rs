//! Runs the loop on fakes in a directory, and compares directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use isr_api::records::Summary;
use isr_api::{Error, Event, Fingerprint, Observer, PreferenceObjective};
use isr_config::{EvaluationConfig, LoopConfig, Schedule, TrainConfig, to_toml};
use isr_run::stage_cache::StageCache;
use isr_run::store::RunDir;
use isr_run::{Components, IterativeLoop, LoopParts};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::fake_policy::FakePolicy;
use crate::fakes::{
    FakeEncoder, FakeEvaluator, FakeJudge, FakeObjective, FakeReader, FakeRetrospector, FakeSelection,
    FakeSource, samples,
};

pub(crate) const BASE: [f64; 4] = [0.1, 0.2, 0.3, 0.4];

/// The settings of a run, and who watches.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) r#loop: LoopConfig,
    pub(crate) train: TrainConfig,
    pub(crate) evaluation: EvaluationConfig,
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    pub(crate) cancel: CancellationToken,
    /// Whether the judge is said to know what is true.
    pub(crate) oracle: bool,
    pub(crate) objective: Arc<dyn PreferenceObjective>,
    /// Whether the reader draws frames.
    pub(crate) draws: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let r#loop = LoopConfig {
            iterations: 3,
            concurrency: 4,
            quarantine_limit: 0.5,
            feature_cache_mb: 1,
            ..LoopConfig::default()
        };
        let train = TrainConfig {
            epochs: 2,
            batch_size: 2,
            learning_rate: 0.5,
            schedule: Schedule::Linear,
            ..TrainConfig::default()
        };
        let (evaluation, cancel) = (EvaluationConfig::default(), CancellationToken::new());
        let (observers, objective) = (Vec::new(), Arc::new(FakeObjective));
        let (oracle, draws) = (false, false);
        Self { seed: 7, r#loop, train, evaluation, observers, cancel, oracle, objective, draws }
    }
}

impl Settings {
    /// With two iterations and training snapshots after every step.
    pub(crate) fn with_snapshots() -> Self {
        let mut settings = Self::default();
        settings.r#loop.iterations = 2;
        settings.train.snapshot_every = Some(1);
        settings
    }

    pub(crate) fn value(&self) -> serde_json::Value {
        let Self { seed, r#loop, train, evaluation, .. } = self;
        json!({ "seed": seed, "loop": r#loop, "train": train, "evaluation": evaluation })
    }
}

/// Components as a new process would build them: the policy is the base model.
pub(crate) struct Fakes {
    pub(crate) components: Components,
    pub(crate) policy: Arc<FakePolicy>,
}

impl Fakes {
    pub(crate) fn new(control: &Arc<Control>) -> Self {
        let policy = Arc::new(FakePolicy::new(BASE, Arc::clone(control)));
        let data = FakeSource {
            training: samples("s", 8),
            evaluation: samples("e", 3),
            control: Arc::clone(control),
        };
        let components = Components {
            data: Arc::new(data),
            video: Arc::new(FakeReader { frames: 2, draws: false, control: Arc::clone(control) }),
            encoder: Some(Arc::new(FakeEncoder { control: Arc::clone(control) })),
            policy: policy.clone(),
            retrospector: Some(Arc::new(FakeRetrospector { control: Arc::clone(control) })),
            judge: Arc::new(FakeJudge { control: Arc::clone(control) }),
            objective: Arc::new(FakeObjective),
            selection: Arc::new(FakeSelection),
            evaluator: Some(Arc::new(FakeEvaluator)),
        };
        Self { components, policy }
    }

    /// Components by the settings.
    pub(crate) fn of(settings: &Settings, control: &Arc<Control>) -> Self {
        let mut fakes = Self::new(control);
        fakes.components.objective = Arc::clone(&settings.objective);
        if settings.draws {
            let reader = FakeReader { frames: 2, draws: true, control: Arc::clone(control) };
            fakes.components.video = Arc::new(reader);
        }
        fakes
    }
}

/// One session of a run on well-behaved components.
pub(crate) async fn run(dir: &Path, settings: &Settings) -> Result<Summary, Error> {
    run_under(dir, settings, &Arc::default()).await
}

/// One session of a run on components that a test controls.
pub(crate) async fn run_under(
    dir: &Path,
    settings: &Settings,
    control: &Arc<Control>,
) -> Result<Summary, Error> {
    run_with(dir, settings, Fakes::of(settings, control).components).await
}

/// One session of a run on components that a test has changed.
pub(crate) async fn run_with(
    dir: &Path,
    settings: &Settings,
    components: Components,
) -> Result<Summary, Error> {
    open_with(dir, settings, components)?.run().await
}

/// One session of a run that shares stages.
pub(crate) async fn run_shared(
    dir: &Path,
    settings: &Settings,
    components: Components,
    cache: StageCache,
) -> Result<Summary, Error> {
    open_with(dir, settings, components)?.with_stage_cache(cache).run().await
}

pub(crate) fn open_with(
    dir: &Path,
    settings: &Settings,
    components: Components,
) -> Result<IterativeLoop, Error> {
    let value = settings.value();
    let store = RunDir::open(dir, &value, &to_toml(&value)?)?;
    Ok(loop_in(store, settings, components))
}

pub(crate) fn loop_in(store: RunDir, settings: &Settings, components: Components) -> IterativeLoop {
    let parts = LoopParts {
        name: "test".to_owned(),
        config: Fingerprint::of(settings.seed.to_le_bytes()),
        seed: settings.seed,
        settings: settings.r#loop.clone(),
        train: settings.train.clone(),
        evaluation: settings.evaluation.clone(),
        components,
        oracle: settings.oracle,
        store,
        observers: settings.observers.clone(),
        cancel: settings.cancel.clone(),
    };
    IterativeLoop::new(parts)
}

/// A new directory, in memory where the system has such: the loop makes all that it writes durable.
pub(crate) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A directory's files with their content, and its folders with `None`.
pub(crate) type Tree = BTreeMap<String, Option<Vec<u8>>>;

pub(crate) fn tree(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    collect(dir, "", &mut tree);
    tree
}

fn collect(dir: &Path, prefix: &str, tree: &mut Tree) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            collect(&path, &format!("{name}/"), tree);
            tree.insert(name, None);
        } else if name != ".lock" {
            tree.insert(name, Some(fs::read(&path).unwrap()));
        }
    }
}

pub(crate) fn write_tree(dir: &Path, tree: &Tree) {
    for (name, content) in tree {
        match content {
            None => fs::create_dir_all(dir.join(name)).unwrap(),
            Some(bytes) => fs::write(dir.join(name), bytes).unwrap(),
        }
    }
}

/// Panics with the first difference.
pub(crate) fn assert_same(left: &Tree, right: &Tree, what: &str) {
    let names: std::collections::BTreeSet<_> = left.keys().chain(right.keys()).collect();
    for name in names {
        let show = |tree: &Tree| match tree.get(name) {
            None => "absent".to_owned(),
            Some(None) => "a folder".to_owned(),
            Some(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        };
        assert!(left.get(name) == right.get(name), "{what}: {name}:\n{}\n--\n{}", show(left), show(right));
    }
}

/// A line an event.
#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<String>>);

impl Log {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        let line = match event {
            Event::RunStarted { run, iteration, iterations, .. } => {
                format!("run {run}: {iteration}/{iterations}")
            }
            Event::StageStarted { iteration, stage, done, total } => {
                format!("{iteration} {}: {done}/{total}", stage.name())
            }
            Event::ItemDone { stage } => format!("  {} item", stage.name()),
            Event::Quarantined { stage, subject, reason } => {
                format!("  {} quarantined {subject}: {reason}", stage.name())
            }
            Event::TrainStep { step, .. } => format!("  train step {step}"),
            Event::StageFinished { iteration, stage, .. } => format!("{iteration} {}: done", stage.name()),
            Event::BaseEvaluated { .. } => "base evaluated".to_owned(),
            Event::IterationFinished { summary } => format!("iteration {} finished", summary.iteration),
            Event::RunFinished => "run finished".to_owned(),
            other => format!("{other:?}"),
        };
        self.0.lock().unwrap().push(line);
    }
}
