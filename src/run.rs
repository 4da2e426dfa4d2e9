//! A run of the loop: from a config, and components given as values, to an open run directory.

use std::any::type_name;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::records::Summary;
use isr_api::{
    BuildContext, Error, Evaluator, Event, Fingerprint, Judge, Kind, Observer, Policy, PreferenceObjective,
    ProcessGroup, Retrospector, SampleSource, Selection, VideoEncoder, VideoReader,
};
use isr_config::plugin::{LoadedPlugin, Plugins};
use isr_config::registry::ValueConfig;
use isr_config::{LoadedConfig, Loader, MixConfig, RunConfig, is_oracle, to_toml};
use isr_run::store::RunDir;
use isr_run::{ComponentValues, IterativeLoop, LoopParts, PreferenceData};
use tokio_util::sync::CancellationToken;

use crate::components::built;
use crate::dpo::DpoRunConfig;
use crate::preflight::warn_of_space;
use crate::provenance;
use crate::shared::{plugin_identities, stage_cache};
use crate::timings::TimingsObserver;

/// An open run of the iterative preference optimisation loop.
///
/// The run directory is locked against other processes until the value is dropped or [closed](Self::close).
/// Dropping it does not block: models are freed on a thread of their own, once the operation that they are at
/// has ended.
pub struct Run {
    inner: Option<IterativeLoop>,
    dir: PathBuf,
    cancel: CancellationToken,
}

impl Run {
    /// Starts building a run from a config: a path, a [`LoadedConfig`], a [`RunConfig`] made in code, or a [`DpoRunConfig`],
    /// whose pairs all come from data.
    pub fn builder(config: impl Into<ConfigSource>) -> RunBuilder {
        RunBuilder {
            config: config.into(),
            values: ComponentValues::default(),
            names: Vec::new(),
            oracle: false,
            observers: Vec::new(),
            cancel: CancellationToken::new(),
            stop: CancellationToken::new(),
            stage_cache: None,
            processes: None,
        }
    }

    /// Runs all iterations that are not complete, and returns the summary of all.
    ///
    /// # Errors
    /// [`Error::Cancelled`] after a cancellation, [`Error::Component`] for a component that failed, and the other
    /// variants by their documentation. What was done is on disk: the same builder on the same directory continues.
    pub async fn run(&self) -> Result<Summary, Error> {
        match &self.inner {
            Some(inner) => inner.run().await,
            None => Err(Error::Cancelled),
        }
    }

    /// The run directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A token that stops the run in a state that can be continued.
    pub fn cancellation_token(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Unlocks the directory, and waits until the models are freed.
    pub async fn close(mut self) {
        if let Some(inner) = self.inner.take() {
            // Joining the thread of a policy blocks.
            let _ = tokio::task::spawn_blocking(move || drop(inner)).await;
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        // Unlocks the directory at once; the rest may wait for an operation of the policy.
        let components = inner.into_components();
        std::thread::spawn(move || drop(components));
    }
}

/// What a run is configured by.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigSource {
    /// A TOML file, read with the environment's `ISR__SECTION__KEY` above it.
    File(PathBuf),
    /// A config that was loaded from layers.
    Loaded(Box<LoadedConfig<RunConfig>>),
    /// A config that was built in code.
    Built(Box<RunConfig>),
    /// A config of a training on preference pairs that exist already.
    Dpo(Box<LoadedConfig<DpoRunConfig>>),
}

impl From<&Path> for ConfigSource {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<PathBuf> for ConfigSource {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&str> for ConfigSource {
    fn from(path: &str) -> Self {
        Self::File(path.into())
    }
}

impl From<LoadedConfig<RunConfig>> for ConfigSource {
    fn from(config: LoadedConfig<RunConfig>) -> Self {
        Self::Loaded(Box::new(config))
    }
}

impl From<RunConfig> for ConfigSource {
    fn from(config: RunConfig) -> Self {
        Self::Built(Box::new(config))
    }
}

impl From<LoadedConfig<DpoRunConfig>> for ConfigSource {
    fn from(config: LoadedConfig<DpoRunConfig>) -> Self {
        Self::Dpo(Box::new(config))
    }
}

/// A config with the values that stand for sections that its command does not have.
struct Source {
    config: LoadedConfig<RunConfig>,
    values: ComponentValues,
    /// Text for `config.toml`; `None` for that of `config`.
    toml: Option<String>,
}

impl ConfigSource {
    fn load(self) -> Result<Source, Error> {
        let config = match self {
            Self::File(path) => Loader::new().file(path).environment().load()?,
            Self::Loaded(config) => *config,
            Self::Built(config) => LoadedConfig::of(*config)?,
            Self::Dpo(config) => {
                let LoadedConfig { value, settings, origins, plugins } = *config;
                let (values, toml) = (value.values(), Some(to_toml(&value)?));
                let config = LoadedConfig { value: value.into_run(), settings, origins, plugins };
                return Ok(Source { config, values, toml });
            }
        };
        Ok(Source { config, values: ComponentValues::default(), toml: None })
    }
}

/// Builds a [`Run`]; made by [`Run::builder`].
///
/// A component that is given as a value takes the place of its section in the config. It stands in `config.toml`
/// as `{ type = "value", name = ... }` by the name of its Rust type, and must be given again to continue the run.
#[must_use = "a run is opened by `open`"]
pub struct RunBuilder {
    config: ConfigSource,
    values: ComponentValues,
    names: Vec<(Kind, String)>,
    oracle: bool,
    observers: Vec<Arc<dyn Observer>>,
    cancel: CancellationToken,
    stop: CancellationToken,
    stage_cache: Option<PathBuf>,
    processes: Option<Arc<dyn ProcessGroup>>,
}

macro_rules! value_setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ident, $component:ident;)+) => {
        $(
            $(#[$doc])*
            pub fn $name<T: $component + 'static>(mut self, value: T) -> Self {
                self.values.$name = Some(Arc::new(value));
                self.names.push((Kind::$kind, short_name::<T>()));
                self
            }
        )+
    };
}

impl RunBuilder {
    value_setters! {
        /// Gives the source of samples.
        data: Data, SampleSource;
        /// Gives the video reader.
        video: Video, VideoReader;
        /// Gives the video encoder.
        encoder: Encoder, VideoEncoder;
        /// Gives the policy that is trained.
        policy: Policy, Policy;
        /// Gives the retrospector, which writes the visual contexts.
        retrospector: Retrospector, Retrospector;
        /// Gives the judge.
        judge: Judge, Judge;
        /// Gives the preference objective.
        objective: Objective, PreferenceObjective;
        /// Gives the selection of pairs.
        selection: Selection, Selection;
        /// Gives the evaluator of held-out samples.
        evaluator: Evaluator, Evaluator;
    }

    /// Marks the given judge as one that knows the truth; every record of its verdicts says so.
    pub fn oracle_judge(mut self) -> Self {
        self.oracle = true;
        self
    }

    /// Calls a function with each event of the run, from the loop's own task: it must return soon.
    pub fn observer(self, observe: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.shared_observer(Arc::new(Callback(observe)))
    }

    /// Adds an observer, beside those that the config names.
    pub fn shared_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Stops the run when the token is cancelled, in a state that can be continued.
    pub fn cancelled_by(mut self, token: CancellationToken) -> Self {
        self.cancel = token;
        self
    }

    /// Stops the run when the token is cancelled, without the loss of a training step: a training ends behind the one that is
    /// under way, with a snapshot; everything else, which is journalled item by item, is stopped at once.
    pub fn stopped_by(mut self, token: CancellationToken) -> Self {
        self.stop = token;
        self
    }

    /// Takes over stages that equal runs left in this folder, and leaves those of this run; results do not depend
    /// on it. Has no effect on a run with components that were given as values, whose code it cannot identify.
    pub fn stage_cache(mut self, dir: impl Into<PathBuf>) -> Self {
        self.stage_cache = Some(dir.into());
        self
    }

    /// Runs the loop in a group of processes: each opens the same config and run directory, on a file system that all see,
    /// and takes its share of the work. Only the first process writes and calls observers. Stages have the results of one
    /// process, trainings but for rounding.
    pub fn processes(mut self, group: Arc<dyn ProcessGroup>) -> Self {
        self.processes = Some(group);
        self
    }

    /// Builds the components, and opens the run directory `dir`, which is continued where it holds a part of the
    /// same run. Writes `config.toml` and `provenance.json`. Weights are read on a blocking thread.
    ///
    /// # Errors
    /// [`Error::Config`] for a config that cannot be used, [`Error::Build`] for a component that cannot be built (both
    /// before `dir` is touched), [`Error::OtherRun`] where `dir` holds a run with another config.
    pub async fn open(self, dir: impl Into<PathBuf>) -> Result<Run, Error> {
        let dir = dir.into();
        match tokio::task::spawn_blocking(move || self.open_blocking(dir)).await {
            Ok(opened) => opened,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Error::Cancelled),
            },
        }
    }

    fn open_blocking(self, dir: PathBuf) -> Result<Run, Error> {
        let group = self.processes.clone();
        self.open_here(dir).inspect_err(|error| {
            // The others must not wait for this one.
            if let Some(group) = group {
                group.fail(&error.to_string());
            }
        })
    }

    fn open_here(self, dir: PathBuf) -> Result<Run, Error> {
        let Source { mut config, values, toml } = self.config.load()?;
        for (kind, name) in &self.names {
            put_placeholder(&mut config, *kind, name);
        }
        let cache =
            self.stage_cache.filter(|_| self.names.is_empty()).map(|dir| stage_cache(&dir, &config));
        let plugin_identities = plugin_identities(&config);
        let LoadedConfig { value, settings, plugins, .. } = config;
        let are_several = self.processes.as_ref().is_some_and(|group| group.world_size() > 1);
        if let Some(sampler) = value.sampler.as_ref().filter(|_| are_several) {
            let text = format!(
                "`sampler` is {}, which serves one process, and this run has several; leave one of them out",
                sampler.name()
            );
            return Err(Error::Config(text));
        }
        let toml = toml.map_or_else(|| to_toml(&value), Ok)?;
        let fingerprint = Fingerprint::of(of_results(&settings, &plugins).to_string());
        let cx = BuildContext { config: settings.clone() };
        let components = self.values.or(values).complete(&value, &cx)?;
        let preferences = preference_data(&value, &cx)?;
        let mut observers = self.observers;
        let leads = self.processes.as_ref().is_none_or(|group| group.rank() == 0);
        let store = if leads {
            for observer in &value.observers {
                observers.push(built(Kind::Observer, observer.name(), observer.build(&cx))?);
            }
            let store = RunDir::open(&dir, &settings, &toml)?;
            provenance::record(store.path(), &fingerprint, value.seed, &plugins);
            warn_of_space(&dir, &settings, value.r#loop.iterations, value.train.snapshot_every.is_some());
            observers.push(Arc::new(TimingsObserver::open(store.path())));
            meet(self.processes.as_deref())?;
            store
        } else {
            meet(self.processes.as_deref())?;
            RunDir::join(&dir)?
        };
        let inner = IterativeLoop::new(LoopParts {
            name: value.name,
            config: fingerprint,
            seed: value.seed,
            settings: value.r#loop,
            train: value.train,
            evaluation: value.evaluation,
            oracle: self.oracle
                || is_oracle(value.judge.as_ref())
                || value.retrospector.as_ref().is_some_and(|it| is_oracle(it.as_ref())),
            components,
            store,
            observers,
            cancel: self.cancel.clone(),
        })
        .stopped_by(self.stop)
        .with_plugins(plugin_identities)
        .with_preferences(preferences);
        let inner = match cache {
            Some(cache) => inner.with_stage_cache(cache),
            None => inner,
        };
        let inner = match self.processes {
            Some(group) => inner.with_processes(group),
            None => inner,
        };
        Ok(Run { inner: Some(inner), dir, cancel: self.cancel })
    }
}

/// Waits until all processes of a group are here.
fn meet(group: Option<&dyn ProcessGroup>) -> Result<(), Error> {
    let met = group.map_or(Ok(()), ProcessGroup::barrier);
    met.map_err(|source| {
        let (stage, subject) = ("start".to_owned(), "process group".to_owned());
        Error::Component { stage, subject, source }
    })
}

/// Builds the datasets of `loop.mix`.
fn preference_data(config: &RunConfig, cx: &BuildContext) -> Result<Vec<PreferenceData>, Error> {
    let build = |mix: &MixConfig| {
        let MixConfig { preferences, share, iterations } = mix;
        let preferences = built(Kind::Preferences, preferences.name(), preferences.build(cx))?;
        Ok(PreferenceData { preferences, share: *share, iterations: iterations.clone() })
    };
    config.r#loop.mix.iter().map(build).collect()
}

/// Puts the name of a value where a section of the config would stand.
fn put_placeholder(config: &mut LoadedConfig<RunConfig>, kind: Kind, name: &str) {
    let placeholder = || Box::new(ValueConfig::named(name));
    let value = &mut config.value;
    match kind {
        Kind::Data => value.data = placeholder(),
        Kind::Video => value.video = placeholder(),
        Kind::Encoder => value.encoder = Some(placeholder()),
        Kind::Policy => value.policy = placeholder(),
        Kind::Retrospector => value.retrospector = Some(placeholder()),
        Kind::Judge => value.judge = placeholder(),
        Kind::Objective => value.objective = placeholder(),
        Kind::Selection => value.selection = placeholder(),
        Kind::Evaluator => value.evaluator = Some(placeholder()),
        // The builder takes no other kind as a named value.
        _ => return,
    }
    config.settings[kind.section()] = serde_json::json!({ "type": "value", "name": name });
}

/// `MyJudge` of `my_crate::judging::MyJudge`.
fn short_name<T>() -> String {
    let path = type_name::<T>();
    let plain = path.split('<').next().unwrap_or(path);
    plain.rsplit("::").next().unwrap_or(plain).to_owned()
}

/// An observer that is a function.
struct Callback<F>(F);

impl<F: Fn(&Event<'_>) + Send + Sync> Observer for Callback<F> {
    fn observe(&self, event: &Event<'_>) {
        (self.0)(event);
    }
}

/// What the results of a run depend on, which observers with their plugin files and the folder of a cache do not belong
/// to.
fn of_results(settings: &serde_json::Value, plugins: &Plugins) -> serde_json::Value {
    let mut settings = settings.clone();
    if let Some(settings) = settings.as_object_mut() {
        settings.shift_remove("observers");
        if let Some(serde_json::Value::Array(named)) = settings.get_mut("plugins") {
            let observes =
                |it: &LoadedPlugin| it.plugin.manifests().iter().all(|it| it.kind == Kind::Observer);
            let mut observes = plugins.files().iter().map(observes);
            named.retain(|_| !observes.next().unwrap_or(false));
            if named.is_empty() {
                settings.shift_remove("plugins");
            }
        }
        if let Some(serde_json::Value::Object(section)) = settings.get_mut("loop") {
            section.shift_remove("feature_cache_dir");
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_folder_of_a_cache_is_no_part_of_a_runs_fingerprint() {
        let settings = |dir: Option<&str>| {
            let mut settings = json!({ "seed": 1, "loop": { "iterations": 2 }, "observers": [dir] });
            if let Some(dir) = dir {
                settings["loop"]["feature_cache_dir"] = dir.into();
            }
            of_results(&settings, &Plugins::default())
        };
        assert_eq!(settings(None), settings(Some("a")));
        assert_eq!(settings(None), json!({ "seed": 1, "loop": { "iterations": 2 } }));
    }
}
