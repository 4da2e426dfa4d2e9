//! Messages of `wandb_internal.proto`, as far as they are written here.

use std::collections::BTreeMap;

use prost::Message;
use serde_json::{Value, json};

use super::WandbConfig;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(int64, tag = "1")]
    pub(super) num: i64,
    #[prost(message, optional, tag = "2")]
    pub(super) history: Option<History>,
    #[prost(message, optional, tag = "3")]
    pub(super) summary: Option<Summary>,
    #[prost(message, optional, tag = "12")]
    pub(super) metric: Option<Metric>,
    #[prost(message, optional, tag = "17")]
    pub(super) run: Option<Run>,
    #[prost(message, optional, tag = "18")]
    pub(super) exit: Option<Exit>,
    #[prost(message, optional, tag = "21")]
    pub(super) header: Option<Header>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    #[prost(message, optional, tag = "1")]
    version_info: Option<VersionInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct VersionInfo {
    #[prost(string, tag = "1")]
    producer: String,
    #[prost(string, tag = "2")]
    min_consumer: String,
}

pub(super) fn header() -> Header {
    let producer = concat!("isr-dpo ", env!("CARGO_PKG_VERSION")).to_owned();
    Header { version_info: Some(VersionInfo { producer, min_consumer: "0.40.0".to_owned() }) }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Run {
    #[prost(string, tag = "1")]
    run_id: String,
    #[prost(string, tag = "2")]
    entity: String,
    #[prost(string, tag = "3")]
    project: String,
    #[prost(message, optional, tag = "4")]
    config: Option<Config>,
    #[prost(string, tag = "8")]
    display_name: String,
    #[prost(message, optional, tag = "17")]
    start_time: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Config {
    #[prost(message, repeated, tag = "1")]
    update: Vec<ConfigItem>,
}

#[derive(Clone, PartialEq, Message)]
struct ConfigItem {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "16")]
    value_json: String,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Run {
    pub(super) fn new(id: &str, config: &WandbConfig, name: &str, settings: &Value, start: f64) -> Self {
        let settings = settings.as_object().into_iter().flatten();
        let update = settings
            .map(|(key, value)| ConfigItem { key: key.clone(), value_json: value.to_string() })
            .collect();
        Self {
            run_id: id.to_owned(),
            entity: config.entity.clone().unwrap_or_default(),
            project: config.project.clone(),
            config: Some(Config { update }),
            display_name: name.to_owned(),
            start_time: Some(Timestamp { seconds: start as i64, nanos: (start.fract() * 1e9) as i32 }),
        }
    }

    /// Unix time of the run's start in seconds.
    pub(super) fn started(&self) -> Option<f64> {
        self.start_time.as_ref().map(|time| time.seconds as f64 + f64::from(time.nanos) * 1e-9)
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct History {
    #[prost(message, repeated, tag = "1")]
    item: Vec<Item>,
    #[prost(message, optional, tag = "2")]
    step: Option<HistoryStep>,
}

#[derive(Clone, PartialEq, Message)]
struct Item {
    /// Its one element is the name, `/` and `.` included.
    #[prost(string, repeated, tag = "2")]
    nested_key: Vec<String>,
    #[prost(string, tag = "16")]
    value_json: String,
}

#[derive(Clone, PartialEq, Message)]
struct HistoryStep {
    #[prost(int64, tag = "1")]
    num: i64,
}

impl History {
    /// Row `row` of the history, with these values.
    pub(super) fn new(row: i64, values: impl Iterator<Item = (String, f64)>) -> Self {
        let item = |(name, value)| Item { nested_key: vec![name], value_json: number(value) };
        let own = Item { nested_key: vec!["_step".to_owned()], value_json: row.to_string() };
        Self { item: values.map(item).chain([own]).collect(), step: Some(HistoryStep { num: row }) }
    }

    pub(super) fn step(&self) -> i64 {
        self.step.as_ref().map_or(0, |step| step.num)
    }

    /// The value of a metric.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        let item = self.item.iter().find(|item| item.nested_key.as_slice() == [name])?;
        item.value_json.parse().ok()
    }

    /// Names and values, as wandb writes them.
    pub(super) fn values(&self) -> impl Iterator<Item = (String, String)> {
        self.item.iter().filter_map(|Item { nested_key, value_json }| {
            Some((nested_key.first()?.clone(), value_json.clone()))
        })
    }
}

/// Newest values of metrics.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Summary {
    #[prost(message, repeated, tag = "1")]
    update: Vec<Item>,
}

impl Summary {
    pub(super) fn new(values: &BTreeMap<String, String>) -> Self {
        let item = |(name, value): (&String, &String)| Item {
            nested_key: vec![name.clone()],
            value_json: value.clone(),
        };
        Self { update: values.iter().map(item).collect() }
    }
}

/// A number as wandb writes it: in JSON with the names that Python's parser knows.
fn number(value: f64) -> String {
    match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => json!(value).to_string(),
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    glob_name: String,
    #[prost(string, tag = "4")]
    step_metric: String,
    #[prost(message, optional, tag = "6")]
    options: Option<MetricOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricOptions {
    #[prost(bool, tag = "2")]
    hidden: bool,
    #[prost(bool, tag = "3")]
    defined: bool,
}

/// Definitions of a series' x axis and of its metrics.
pub(super) fn axis_of_series(series: &str, axis: &str) -> [Metric; 2] {
    let options = |hidden| Some(MetricOptions { hidden, defined: true });
    let own = Metric { name: axis.to_owned(), options: options(true), ..Metric::default() };
    let metrics = Metric {
        glob_name: format!("{series}/*"),
        step_metric: axis.to_owned(),
        options: options(false),
        ..Metric::default()
    };
    [own, metrics]
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Exit {
    #[prost(int32, tag = "1")]
    pub(super) exit_code: i32,
    #[prost(int32, tag = "2")]
    pub(super) runtime: i32,
}
