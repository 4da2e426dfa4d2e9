//! Offline runs of Weights & Biases.
//!
//! Format: the record log that wandb 0.21 (`sdk/internal/datastore.py`) and 0.31 write and `wandb sync` uploads, with the
//! messages of `wandb_internal.proto`. Only the fields that are used here are declared.

mod log;
mod messages;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::DateTime;
use isr_api::{BuildContext, Cause, Component, Fingerprint, Observer};
use prost::Message as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::log::RecordLog;
use self::messages::{History, Record, Run, Summary};
use crate::recorder::{Recorder, Sink, at};
use crate::scalars::Scalars;

/// Logs metrics and settings of a run to an offline run of Weights & Biases, without its package and without a network.
///
/// `wandb sync wandb/offline-run-...` uploads it. Metrics are named `iterations/...`, with the iteration as step, and
/// `iteration-NN/training/...`, with the optimiser step. A run that goes on continues its offline run.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WandbConfig {
    /// Folder of the offline runs, relative to the current folder. Default "wandb".
    #[serde(default = "default_dir")]
    dir: PathBuf,
    /// Name of the project. Default "isr-dpo".
    #[serde(default = "default_project")]
    project: String,
    /// User or team that the run belongs to. Default: that of whoever uploads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    entity: Option<String>,
}

fn default_dir() -> PathBuf {
    "wandb".into()
}

fn default_project() -> String {
    "isr-dpo".to_owned()
}

impl Component for WandbConfig {
    type Built = Arc<dyn Observer>;

    fn validate(&self) -> Result<(), String> {
        // https://docs.wandb.ai: what a project's name may not contain.
        let allowed = |c: char| !c.is_control() && !"/\\#?%:".contains(c);
        if self.project.is_empty() || self.project.len() > 128 || !self.project.chars().all(allowed) {
            let project = &self.project;
            return Err(format!(
                "project is {project:?}; it must have 1 to 128 bytes, and none of / \\ # ? % :"
            ));
        }
        Ok(())
    }

    fn build(&self, cx: &BuildContext) -> Result<Self::Built, Cause> {
        let (config, settings) = (self.clone(), cx.config.clone());
        let open = move |name: &str, run: &Path| {
            Ok(Box::new(OfflineRun::open(&config, name, run, &settings)?) as Box<dyn Sink>)
        };
        Ok(Arc::new(Recorder::new("wandb", Box::new(open))))
    }
}

isr_config::register!(Observer "wandb" => WandbConfig, example = "project = \"isr-dpo\"\n");

/// The folder of an offline run.
struct OfflineRun {
    folder: PathBuf,
    log: RecordLog,
    /// Number of the next record, and of the next row of history.
    next: (i64, i64),
    /// Unix time at which the first session began.
    start: f64,
    /// Newest value of each metric.
    summary: BTreeMap<String, String>,
    /// Series that this session has written to.
    begun: HashSet<String>,
}

impl OfflineRun {
    /// Opens the offline run of a run directory. Its id is a digest of the directory's path, so a continued run continues
    /// it.
    fn open(config: &WandbConfig, name: &str, run: &Path, settings: &Value) -> io::Result<Self> {
        let digest = Fingerprint::of(absolute(run)?.to_string_lossy().as_bytes()).to_string();
        let id = &digest[..12];
        let folder = folder(&config.dir, id)?;
        let files = folder.join("files");
        fs::create_dir_all(&files).map_err(at(&files))?;
        write(&files.join("config.yaml"), &yaml(settings))?;
        let path = folder.join(format!("run-{id}.wandb"));
        let mut this = Self {
            folder,
            log: RecordLog::open(&path)?,
            next: (1, 0),
            start: now(),
            summary: BTreeMap::new(),
            begun: HashSet::new(),
        };
        // What ended the last session is not the end.
        this.keep(|record| record.exit.is_none())?;
        if this.next.0 == 1 {
            this.append(Record { header: Some(messages::header()), ..Record::default() })?;
            let run = Run::new(id, config, name, settings, this.start);
            this.append(Record { run: Some(run), ..Record::default() })?;
        }
        Ok(this)
    }

    /// Rewrites the log with some of its records, where others are in it, and restores what follows from them.
    fn keep(&mut self, keep: impl Fn(&Record) -> bool) -> io::Result<()> {
        let is_kept = |bytes: &[u8]| Record::decode(bytes).is_ok_and(|record| keep(&record));
        let kept = self.log.retain(is_kept)?;
        (self.next, self.summary) = ((1, 0), BTreeMap::new());
        for record in kept.iter().filter_map(|bytes| Record::decode(bytes.as_slice()).ok()) {
            self.next.0 = self.next.0.max(record.num + 1);
            if let Some(seconds) = record.run.as_ref().and_then(Run::started) {
                self.start = seconds;
            }
            if let Some(history) = &record.history {
                self.next.1 = self.next.1.max(history.step() + 1);
                self.summary.extend(history.values());
            }
        }
        Ok(())
    }

    fn append(&mut self, record: Record) -> io::Result<()> {
        let record = Record { num: self.next.0, ..record };
        self.next.0 += 1;
        self.log.append(&record.encode_to_vec())
    }

    /// Begins a series: drops what an earlier session logged from `step` on, and names its x axis.
    fn begin(&mut self, series: &str, step: u64) -> io::Result<()> {
        if !self.begun.insert(series.to_owned()) {
            return Ok(());
        }
        let axis = axis(series);
        let is_later = |history: &History| history.number(&axis).is_some_and(|it| it >= step as f64);
        self.keep(|record| !record.history.as_ref().is_some_and(&is_later))?;
        for metric in messages::axis_of_series(series, &axis) {
            self.append(Record { metric: Some(metric), ..Record::default() })?;
        }
        Ok(())
    }

    /// Writes the newest values for `wandb sync`, and for people.
    fn write_summary(&mut self) -> io::Result<()> {
        let summary = Some(Summary::new(&self.summary));
        self.append(Record { summary, ..Record::default() })?;
        let value = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        let values: BTreeMap<_, Value> =
            self.summary.iter().map(|(name, text)| (name, value(text))).collect();
        write(&self.folder.join("files/wandb-summary.json"), &json!(values).to_string())
    }
}

impl Sink for OfflineRun {
    fn write(&mut self, scalars: &Scalars) -> io::Result<()> {
        let Scalars { series, step, values } = scalars;
        self.begin(series, *step)?;
        let named = values.iter().map(|(tag, value)| (format!("{series}/{tag}"), *value));
        let (time, row) = (now(), self.next.1);
        let of_row = [
            (axis(series), *step as f64),
            ("_timestamp".to_owned(), time),
            ("_runtime".to_owned(), time - self.start),
        ];
        let history = History::new(row, of_row.into_iter().chain(named));
        self.next.1 += 1;
        self.summary.extend(history.values());
        self.append(Record { history: Some(history), ..Record::default() })?;
        // Steps of a training are many; the file is for people.
        if series == "iterations" { self.write_summary() } else { Ok(()) }
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write_summary()?;
        let runtime = (now() - self.start) as i32;
        self.append(Record { exit: Some(messages::Exit { exit_code: 0, runtime }), ..Record::default() })
    }
}

/// The metric that is the x axis of a series.
fn axis(series: &str) -> String {
    format!("{series}/step")
}

/// The folder of the offline run of this id: that which is there, else a new one.
fn folder(dir: &Path, id: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(dir).map_err(at(dir))?;
    let end = format!("-{id}");
    for entry in fs::read_dir(dir).map_err(at(dir))?.flatten() {
        let name = entry.file_name();
        let is_it =
            name.to_str().is_some_and(|name| name.starts_with("offline-run-") && name.ends_with(&end));
        if is_it && entry.path().is_dir() {
            return Ok(entry.path());
        }
    }
    let time = DateTime::from_timestamp(now() as i64, 0).unwrap_or_default().format("%Y%m%d_%H%M%S");
    Ok(dir.join(format!("offline-run-{time}{end}")))
}

/// Settings as wandb's `config.yaml`. JSON is YAML, too.
fn yaml(settings: &Value) -> String {
    let entries = settings.as_object().into_iter().flatten();
    entries.map(|(key, value)| format!("{}:\n    value: {value}\n", json!(key))).collect()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let aside = path.with_extension("part");
    fs::write(&aside, text).map_err(at(&aside))?;
    fs::rename(&aside, path).map_err(at(path))
}

/// Unix time in seconds.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use isr_api::{Event, StepReport};

    use super::*;

    fn session(dir: &Path, steps: std::ops::Range<u64>, ends: bool) {
        let config = WandbConfig { dir: dir.join("wandb"), project: default_project(), entity: None };
        let cx = BuildContext { config: json!({"train": {"batch_size": 2}, "seed": 1}) };
        let observer = config.build(&cx).unwrap();
        observer.observe(&Event::RunStarted { run: "it", dir, iteration: 1, iterations: 1 });
        for step in steps {
            let loss = if step == 3 { f64::NAN } else { step as f64 };
            let report = StepReport { loss, grad_norm: 0.5, tokens: 3, metrics: BTreeMap::new() };
            observer.observe(&Event::TrainStep { iteration: 1, step, report: &report });
        }
        if ends {
            observer.observe(&Event::RunFinished);
        }
    }

    #[test]
    fn a_continued_run_is_one_offline_run_with_each_step_once() {
        let dir = tempfile::tempdir().unwrap();
        session(dir.path(), 0..5, false);
        session(dir.path(), 3..6, true);
        session(dir.path(), 6..8, true);
        let folders: Vec<_> =
            fs::read_dir(dir.path().join("wandb")).unwrap().map(|it| it.unwrap().path()).collect();
        let [folder] = &folders[..] else { panic!("{folders:?}") };
        let log = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
        let path = log.into_iter().find(|path| path.extension().is_some_and(|it| it == "wandb")).unwrap();
        let records = RecordLog::open(&path).unwrap().retain(|_| true).unwrap();
        let records: Vec<_> =
            records.iter().map(|bytes| Record::decode(bytes.as_slice()).unwrap()).collect();
        let rows: Vec<_> = records.iter().filter_map(|record| record.history.as_ref()).collect();
        let steps: Vec<_> = rows.iter().map(|row| row.number("iteration-01/step").unwrap()).collect();
        assert_eq!(steps, (0..8).map(f64::from).collect::<Vec<_>>());
        assert_eq!(rows[4].number("iteration-01/training/loss"), Some(4.0));
        assert!(rows[3].number("iteration-01/training/loss").unwrap().is_nan());
        assert!(rows.windows(2).all(|pair| pair[0].step() < pair[1].step()));
        assert!(records.windows(2).all(|pair| pair[0].num < pair[1].num));
        assert_eq!(records.iter().filter(|record| record.run.is_some()).count(), 1);
        assert_eq!(records.iter().filter(|record| record.exit.is_some()).count(), 1);
        assert!(records.last().unwrap().exit.is_some());
        let config = fs::read_to_string(folder.join("files/config.yaml")).unwrap();
        assert_eq!(config, "\"train\":\n    value: {\"batch_size\":2}\n\"seed\":\n    value: 1\n");
        let summary = fs::read_to_string(folder.join("files/wandb-summary.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&summary).unwrap()["iteration-01/training/loss"], 7.0);
    }
}
