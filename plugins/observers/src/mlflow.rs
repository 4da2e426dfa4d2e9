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

/// Writes a run's figures and settings into an MLflow folder (file store), without a server.
///
/// MLflow 3 opens it with `MLFLOW_ALLOW_FILE_STORE=true`, and `mlflow migrate-filestore` turns it into a
/// database. Metrics are named `iterations/...`, by iteration, and `iteration-NN/training/...`, by step.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlflowConfig {
    /// The folder, which runs share. Default "mlruns", in the current folder.
    #[serde(default = "default_dir")]
    dir: PathBuf,
    /// Name of the experiment, which is made where there is none. Default "isr-dpo".
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
    /// Series of which this session has written.
    begun: HashSet<String>,
}

impl Run {
    /// The same run directory is the same run, so that one that is continued is no second one.
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

    /// `meta.yaml`. Status: 1 is running, 3 is finished.
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

    /// Takes back what an earlier session recorded of a series from `step` on.
    fn begin(&mut self, series: &str, step: u64) -> io::Result<()> {
        if self.begun.insert(series.to_owned()) {
            take_back(&self.folder.join("metrics").join(series), step)?;
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

/// The id of the experiment of that name: MLflow's where it made one, else ours.
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

/// One file a setting: `policy.lora.rank` is `policy/lora/rank`, as far as it is no list.
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

fn take_back(folder: &Path, step: u64) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(at(folder))?,
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            take_back(&path, step)?;
            continue;
        }
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        // Also a last line that was cut.
        let earlier = |line: &&str| line.ends_with('\n') && step_of(line).is_some_and(|it| it < step);
        let kept: String = text.split_inclusive('\n').filter(earlier).collect();
        if kept.is_empty() {
            // An empty file is a metric without a value, which MLflow does not read.
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

/// When an earlier session started the run.
fn started(folder: &Path) -> Option<u128> {
    let meta = fs::read_to_string(folder.join("meta.yaml")).ok()?;
    meta.lines().find_map(|line| line.strip_prefix("start_time: "))?.parse().ok()
}

/// Writes aside and renames.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, text).map_err(at(&part))?;
    fs::rename(&part, path).map_err(at(path))
}

/// Text in YAML.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Milliseconds since 1970.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}
