//! `isr run`: the iterations.

use std::path::Path;
use std::sync::Arc;

use isr_api::{BuildContext, Error, Fingerprint, Kind, Observer};
use isr_config::{LoadedConfig, RunConfig, is_oracle, to_toml};
use isr_run::store::RunDir;
use isr_run::{Components, IterativeLoop, LoopParts};
use tokio_util::sync::CancellationToken;

use crate::components::built;
use crate::provenance;
use crate::timings::TimingsObserver;

/// Builds what the config names, and opens the run directory `out`, which is continued where it holds
/// a part of the same run. Writes `config.toml` and `provenance.json`.
///
/// Blocks while weights are read.
///
/// # Errors
/// [`Error::Build`] for a component that cannot be built, before `out` is touched;
/// [`Error::OtherRun`] where `out` holds a run with another config.
pub fn open_run(
    config: LoadedConfig<RunConfig>,
    out: &Path,
    mut observers: Vec<Arc<dyn Observer>>,
    cancel: CancellationToken,
) -> Result<IterativeLoop, Error> {
    let LoadedConfig { value, settings, plugins, .. } = config;
    let toml = to_toml(&value)?;
    let fingerprint = Fingerprint::of_json(&without_observers(&settings));
    let cx = BuildContext { config: settings.clone() };
    let components = Components::build(&value, &cx)?;
    for observer in &value.observers {
        observers.push(built(Kind::Observer, observer.name(), observer.build(&cx))?);
    }
    let store = RunDir::open(out, &settings, &toml)?;
    provenance::record(store.path(), &fingerprint, value.seed, &plugins)?;
    observers.push(Arc::new(TimingsObserver::open(store.path())?));
    Ok(IterativeLoop::new(LoopParts {
        name: value.name,
        config: fingerprint,
        seed: value.seed,
        settings: value.r#loop,
        train: value.train,
        evaluation: value.evaluation,
        oracle: is_oracle(value.judge.as_ref()),
        components,
        store,
        observers,
        cancel,
    }))
}

/// What the results of a run depend on: who watches it does not belong to that.
fn without_observers(settings: &serde_json::Value) -> serde_json::Value {
    let mut settings = settings.clone();
    if let Some(settings) = settings.as_object_mut() {
        settings.shift_remove("observers");
    }
    settings
}
