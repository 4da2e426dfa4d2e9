//! `isr audit --config`: a run's answers, judged again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_analysis::audit::{Rejudging, Seen, SeenVideo};
use isr_api::{BuildContext, Error, Kind, Observer};
use isr_config::plugin::PluginFile;
use isr_config::registry::JudgeConfig;
use isr_config::{Invalid, LoadedConfig, Loader, RunConfig, Validate, is_oracle, to_toml};
use isr_run::feature_cache::FeatureCache;
use isr_run::store::{RunDir, read_json, write_json};
use isr_run::{VideoCache, encoder_of};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use crate::components::built;
use crate::provenance;
use crate::timings::TimingsObserver;

/// Config of one audit by judging again: who judges a run's answers, and what is shown. All else is the
/// run's own config.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// Name of the audit and of its directory: letters, digits, `.`, `_` and `-`. Default "audit".
    #[serde(default = "default_name")]
    pub name: String,
    /// Plugin files: paths, or tables of a `path` and limits. What they give can then be named like what is
    /// built in. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginFile>,
    /// What judges the answers again. Default none: the run's own judge. Of a judge of the run's own type, keys
    /// that are left out are the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<Box<dyn JudgeConfig>>,
    /// The video that it is shown: the `recorded` one, a `blank` one, or that of the next sample with an
    /// `other` one. Default recorded.
    #[serde(default)]
    pub video: SeenVideo,
    /// Whether it is shown the visual context that the run's judge saw. Default true.
    #[serde(default = "yes")]
    pub context: bool,
    /// The iterations. Default all of which the run has verdicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<Vec<u32>>,
    /// Cases of each iteration: the first so many. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
}

fn default_name() -> String {
    "audit".to_owned()
}

fn yes() -> bool {
    true
}

impl Validate for AuditConfig {
    fn invalid(&self) -> Vec<Invalid> {
        let invalid = |key: &str, reason: String| Invalid { key: key.to_owned(), reason };
        let mut found = Vec::new();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.name.is_empty() || self.name.starts_with('.') || !self.name.chars().all(allowed) {
            let must = "it must be letters, digits, `.`, `_` and `-`, not beginning with `.`";
            found.push(invalid("name", format!("is {:?}; {must}", self.name)));
        }
        if let Some(Err(reason)) = self.judge.as_ref().map(|judge| judge.validate()) {
            found.push(invalid("judge", format!("is not valid: {reason}")));
        }
        if self.iterations.as_ref().is_some_and(|all| all.is_empty() || all.contains(&0)) {
            found.push(invalid("iterations", "must name iterations, from 1".to_owned()));
        }
        if self.samples == Some(0) {
            found.push(invalid("samples", "is 0; it must be at least 1".to_owned()));
        }
        found
    }
}

/// Opens the directory `out` for judging the answers of `run` again; it is continued where it holds a part
/// of the same audit. `run` of the result judges.
///
/// Blocks while weights are read.
///
/// # Errors
/// [`Error::Build`] for a component that cannot be built; [`Error::OtherRun`] where `out` holds another
/// audit; [`Error::Config`] where the run's frames or encoder are not what they were.
pub fn open_rejudging(
    config: LoadedConfig<AuditConfig>,
    run: &Path,
    out: &Path,
    mut observers: Vec<Arc<dyn Observer>>,
    cancel: CancellationToken,
) -> Result<Rejudging, Error> {
    let own = Loader::new().file(run.join("config.toml"));
    let loaded = own.clone().load::<RunConfig>()?;
    let (of_its_type, loaded) = match changes_to_own_judge(&config, &loaded.settings)? {
        Some(changes) => (true, own.text("the audit's judge", changes, run).load::<RunConfig>()?),
        None => (false, loaded),
    };
    let LoadedConfig { value: audit, settings, plugins, .. } = config;
    let LoadedConfig { value: of_run, settings: mut run_settings, plugins: run_plugins, .. } = loaded;
    let (judge, plugins) = match &audit.judge {
        Some(judge) if !of_its_type => (judge, &plugins),
        _ => (&of_run.judge, &run_plugins),
    };
    if let Some(judge) = settings.get("judge").filter(|judge| !judge.is_null() && !of_its_type) {
        run_settings["judge"] = judge.clone();
    }
    let cx = BuildContext { config: run_settings };
    let reader = built(Kind::Video, of_run.video.name(), of_run.video.build(&cx))?;
    let built_judge = built(Kind::Judge, judge.name(), judge.build(&cx))?;
    let policy = built(Kind::Policy, of_run.policy.name(), of_run.policy.build(&cx))?;
    let encoder = match &of_run.encoder {
        Some(section) => Some(built(Kind::Encoder, section.name(), section.build(&cx))?),
        None => encoder_of(policy.as_ref(), of_run.policy.name())?,
    };
    let mut now = json!({ "video": reader.fingerprint() });
    if let Some(encoder) = &encoder {
        now["encoder"] = json!(encoder.fingerprint());
    }
    check_fingerprints(run, &now)?;
    let store = RunDir::open(out, &settings, &to_toml(&audit)?)?;
    write_json(&store.path().join("fingerprints.json"), &now)?;
    provenance::record(store.path(), &isr_api::Fingerprint::of(settings.to_string()), of_run.seed, plugins);
    observers.push(Arc::new(TimingsObserver::open(store.path())));
    let seen = Seen { video: audit.video, context: audit.context };
    let scenes = VideoCache::new(seen.through(reader), encoder, of_run.r#loop.feature_cache_mb)
        .with_disk(FeatureCache::of_loop(&of_run.r#loop));
    Ok(Rejudging {
        run: run.to_owned(),
        out: store.path().to_owned(),
        seed: of_run.seed,
        iterations: audit.iterations.unwrap_or_else(|| isr_analysis::audit::judged_iterations(run)),
        judge: built_judge,
        oracle: is_oracle(judge.as_ref()),
        policy,
        scenes: Arc::new(scenes),
        seen,
        samples: audit.samples,
        concurrency: of_run.r#loop.concurrency,
        observers,
        cancel,
    })
}

/// The keys that an audit sets of a judge of the run's own type, as a config text; `None` for a judge of another type,
/// and without one. The prompts and choices of a run's judge are those that its model knows.
fn changes_to_own_judge(audit: &LoadedConfig<AuditConfig>, run: &Value) -> Result<Option<String>, Error> {
    let Some(judge) = audit.settings.get("judge").and_then(Value::as_object) else { return Ok(None) };
    if judge.get("type") != run.pointer("/judge/type") {
        return Ok(None);
    }
    let set = |key: &str| {
        let place = format!("judge.{key}");
        let below =
            |origin: &String| origin.strip_prefix(&place).is_some_and(|rest| !rest.starts_with(is_of_key));
        audit.origins.keys().any(below)
    };
    let changes: Map<String, Value> = judge
        .iter()
        .filter(|(key, value)| set(key) && !value.is_null())
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let text = toml::to_string(&json!({ "judge": changes }));
    text.map(Some).map_err(|error| Error::Config(format!("`judge` cannot be written: {error}")))
}

/// Whether a character continues a key rather than ending it.
fn is_of_key(c: char) -> bool {
    !matches!(c, '.' | '[')
}

/// Where an audit of a run is written unless it is told otherwise.
pub fn audit_dir(run: &Path, config: &AuditConfig) -> PathBuf {
    run.join("audits").join(&config.name)
}

/// The judge must see what the run's judge saw, but for what is changed on purpose.
fn check_fingerprints(run: &Path, now: &Value) -> Result<(), Error> {
    let path = run.join("fingerprints.json");
    let mut then: Value = read_json(&path)?.unwrap_or_default();
    if let Some(then) = then.as_object_mut().filter(|then| !then.contains_key("schema")) {
        // That of an earlier version does not cover the decoder.
        then.shift_remove("video");
    }
    let changed = [("video", "the frame sampling of the video reader"), ("encoder", "the encoder")];
    match changed.into_iter().find(|(key, _)| then.get(key).is_some_and(|then| *then != now[key])) {
        Some((_, what)) => {
            let run = run.display();
            Err(Error::Config(format!(
                "{what} of {run} changed since it was run; restore it to judge again"
            )))
        }
        None => Ok(()),
    }
}
