//! MLflow's file store.
//!
//! Format: `mlflow/store/tracking/file_store.py` of MLflow 3.17, which keeps it in maintenance:
//! `MLFLOW_ALLOW_FILE_STORE=true` opens it, `mlflow migrate-filestore` turns it into a database.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use isr_api::{BuildContext, Cause, Component, Fingerprint, Observer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::recorder::{Recorder, Sink, at};
use crate::scalars::Scalars;

/// Logs metrics and settings of a run to an MLflow file store, without a server.
///
/// MLflow 3 opens it with `MLFLOW_ALLOW_FILE_STORE=true`; `mlflow migrate-filestore` converts it to a database.
/// Metrics are named `iterations/...`, with the iteration as step, and `iteration-NN/training/...`, with the
/// optimizer step.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlflowConfig {
    /// Folder of the store, shared by runs, relative to the current folder. Default "mlruns".
    #[serde(default = "default_dir")]
    dir: PathBuf,
    /// Name of the experiment, created if it does not exist. Default "isr-dpo".
    #[serde(default = "default_experiment")]
    experiment: String,
}

fn default_dir() -> PathBuf {
    "mlruns".into()
}

fn default_experiment() -> String {
    "isr-dpo".to_owned()
}

impl Component for MlflowConfig {
    type Built = Arc<dyn Observer>;

    fn validate(&self) -> Result<(), String> {
        let plain = !self.experiment.is_empty() && !self.experiment.contains(char::is_control);
        plain.then_some(()).ok_or_else(|| "`experiment` must be a name on one line".to_owned())
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        let (config, settings) = (self.clone(), cx.config.clone());
        let open = move |name: &str, run: &Path| {
            Ok(Box::new(Run::open(&config, name, run, &settings)?) as Box<dyn Sink>)
        };
        Ok(Arc::new(Recorder::new("mlflow", Box::new(open))))
    }
}

isr_config::register!(Observer "mlflow" => MlflowConfig, example = "dir = \"mlruns\"\n");

/// A run's folder in the store.
struct Run {
    folder: PathBuf,
    experiment: String,
    id: String,
    name: String,
    start: u128,
    /// Series that this session has written to.
    begun: HashSet<String>,
}

impl Run {
    /// Opens the MLflow run of a run directory. Its id is a digest of the directory's path, so a continued run
    /// continues its MLflow run.
    fn open(config: &MlflowConfig, name: &str, run: &Path, settings: &Value) -> io::Result<Self> {
        let store = absolute(&config.dir)?;
        let experiment = experiment(&store, &config.experiment)?;
        let id = Fingerprint::of(absolute(run)?.to_string_lossy().as_bytes()).to_string();
        let folder = store.join(&experiment).join(&id);
        for name in ["metrics", "params", "tags", "artifacts"] {
            let folder = folder.join(name);
            fs::create_dir_all(&folder).map_err(at(&folder))?;
        }
        write(&folder.join("tags/mlflow.runName"), name)?;
        params(&folder.join("params"), "", settings)?;
        let (name, start) = (name.to_owned(), started(&folder).unwrap_or_else(now));
        let run = Self { folder, experiment, id, name, start, begun: HashSet::new() };
        run.describe(1, None)?;
        Ok(run)
    }

    /// Writes `meta.yaml`. Status 1 is running, 3 is finished.
    fn describe(&self, status: u8, end: Option<u128>) -> io::Result<()> {
        let end = end.map_or("null".to_owned(), |end| end.to_string());
        let text = format!(
            "artifact_uri: {}\nend_time: {end}\nentry_point_name: ''\nexperiment_id: '{}'\n\
             lifecycle_stage: active\nrun_id: {}\nrun_name: {}\nsource_name: ''\nsource_type: 4\n\
             source_version: ''\nstart_time: {}\nstatus: {status}\ntags: []\nuser_id: ''\n",
            quoted(&format!("file://{}", self.folder.join("artifacts").display())),
            self.experiment,
            quoted(&self.id),
            quoted(&self.name),
            self.start,
        );
        write(&self.folder.join("meta.yaml"), &text)
    }

    /// Removes the values that an earlier session logged to a series from `step` on.
    fn begin(&mut self, series: &str, step: u64) -> io::Result<()> {
        if self.begun.insert(series.to_owned()) {
            truncate_from(&self.folder.join("metrics").join(series), step)?;
        }
        Ok(())
    }
}

impl Sink for Run {
    fn write(&mut self, scalars: &Scalars) -> io::Result<()> {
        self.begin(&scalars.series, scalars.step)?;
        for (name, value) in &scalars.values {
            let path = self.folder.join("metrics").join(&scalars.series).join(name);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(at(folder))?;
            }
            let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(at(&path))?;
            let line = format!("{} {value} {}\n", now(), scalars.step);
            file.write_all(line.as_bytes()).map_err(at(&path))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.describe(3, Some(now()))
    }
}

/// Id of the experiment with a name: that of an existing one, else a new one derived from the name.
fn experiment(store: &Path, name: &str) -> io::Result<String> {
    fs::create_dir_all(store).map_err(at(store))?;
    let line = format!("name: {name}");
    let ours = format!("name: {}", quoted(name));
    for entry in fs::read_dir(store).map_err(at(store))?.flatten() {
        let meta = fs::read_to_string(entry.path().join("meta.yaml")).unwrap_or_default();
        if meta.lines().any(|it| it == line || it == ours) {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    let digest = Fingerprint::of(name.as_bytes()).to_string();
    let id = u64::from_str_radix(&digest[..15], 16).unwrap_or_default().to_string();
    let folder = store.join(&id);
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let text = format!(
        "artifact_location: {}\ncreation_time: {now}\nexperiment_id: '{id}'\nlast_update_time: {now}\n\
         lifecycle_stage: active\nname: {}\n",
        quoted(&format!("file://{}", folder.display())),
        quoted(name),
        now = now(),
    );
    write(&folder.join("meta.yaml"), &text)?;
    Ok(id)
}

/// Writes one file per setting: `policy.lora.rank` is `policy/lora/rank`. Skips lists.
fn params(folder: &Path, name: &str, settings: &Value) -> io::Result<()> {
    match settings {
        Value::Object(map) => map.iter().try_for_each(|(key, value)| {
            let key: String = key.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
            params(&folder.join(name), &key, value)
        }),
        Value::Null | Value::Array(_) => Ok(()),
        _ if name.is_empty() => Ok(()),
        value => {
            fs::create_dir_all(folder).map_err(at(folder))?;
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            write(&folder.join(name), &text)
        }
    }
}

/// Removes values with a step of at least `step` from all metrics below a folder.
fn truncate_from(folder: &Path, step: u64) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(at(folder))?,
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            truncate_from(&path, step)?;
            continue;
        }
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        // Also drops an incomplete last line.
        let earlier = |line: &&str| line.ends_with('\n') && step_of(line).is_some_and(|it| it < step);
        let kept: String = text.split_inclusive('\n').filter(earlier).collect();
        if kept.is_empty() {
            // MLflow cannot read a metric file without values.
            fs::remove_file(&path).map_err(at(&path))?;
        } else {
            write(&path, &kept)?;
        }
    }
    Ok(())
}

fn step_of(line: &str) -> Option<u64> {
    line.split_whitespace().nth(2)?.parse().ok()
}

/// Start time that an earlier session recorded, in milliseconds.
fn started(folder: &Path) -> Option<u128> {
    let meta = fs::read_to_string(folder.join("meta.yaml")).ok()?;
    meta.lines().find_map(|line| line.strip_prefix("start_time: "))?.parse().ok()
}

/// Writes a file atomically, by rename.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, text).map_err(at(&part))?;
    fs::rename(&part, path).map_err(at(path))
}

/// A single-quoted YAML string.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Unix time in milliseconds.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}
