//! TensorBoard event files: TFRecords of `tensorflow.Event`.
//!
//! Format: TensorBoard 2.21, `compat/proto/event.proto`, `summary.proto`, and TensorFlow's `record_writer.cc`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use isr_api::{BuildContext, Cause, Component, Observer};
use prost::Message;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::recorder::{Recorder, Sink, at};
use crate::scalars::Scalars;

/// Logs metrics of a run as TensorBoard event files: training curves per iteration, and metrics by iteration.
///
/// `tensorboard --logdir runs` shows all runs in a folder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TensorboardConfig {
    /// Folder of the event files, one per run. Default `tensorboard` in the run's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dir: Option<PathBuf>,
}

impl Component for TensorboardConfig {
    type Built = Arc<dyn Observer>;

    fn build(&self, _: &BuildContext) -> Result<Self::Built, Cause> {
        let dir = self.dir.clone();
        let open = move |_: &str, run: &Path| {
            let dir = dir.clone().unwrap_or_else(|| run.join("tensorboard"));
            Ok(Box::new(EventFiles { dir, files: HashMap::new() }) as Box<dyn Sink>)
        };
        Ok(Arc::new(Recorder::new("tensorboard", Box::new(open))))
    }
}

isr_config::register!(Observer "tensorboard" => TensorboardConfig, example = "");

/// Event files: a folder per series, with a file per session, which TensorBoard joins to one curve.
struct EventFiles {
    dir: PathBuf,
    files: HashMap<String, File>,
}

impl Sink for EventFiles {
    fn write(&mut self, scalars: &Scalars) -> io::Result<()> {
        let folder = self.dir.join(&scalars.series);
        let file = match self.files.get_mut(&scalars.series) {
            Some(file) => file,
            None => {
                let file = begin(&folder, scalars.step)?;
                self.files.entry(scalars.series.clone()).or_insert(file)
            }
        };
        let value =
            |(tag, value): &(String, f64)| Value { tag: tag.clone(), simple_value: Some(*value as f32) };
        let summary = Summary { value: scalars.values.iter().map(value).collect() };
        let event = Event { step: scalars.step as i64, summary: Some(summary), ..Event::now() };
        file.write_all(&record(&event)).map_err(at(&folder))
    }
}

/// Creates a session's file. Its name sorts after those of earlier sessions; its second record makes
/// TensorBoard discard their values from `step` on.
fn begin(folder: &Path, step: u64) -> io::Result<File> {
    fs::create_dir_all(folder).map_err(at(folder))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("events.out.tfevents.{:010}.{:09}.isr", now.as_secs(), now.subsec_nanos());
    let path = folder.join(name);
    let mut file = File::create_new(&path).map_err(at(&path))?;
    let version = Event { file_version: Some("brain.Event:2".to_owned()), ..Event::now() };
    let session_log = Some(SessionLog { status: SessionLog::START });
    let start = Event { step: step as i64, session_log, ..Event::now() };
    file.write_all(&[record(&version), record(&start)].concat()).map_err(at(&path))?;
    Ok(file)
}

/// TFRecord framing: length, masked CRC32C of the length, data, masked CRC32C of the data.
fn record(event: &Event) -> Vec<u8> {
    let masked =
        |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), &data, &masked(&data)].concat()
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Unix time in seconds.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

impl Event {
    fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall_time: now.as_secs_f64(), ..Self::default() }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    // Member of a oneof, so that 0 must be encoded, too.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl SessionLog {
    const START: i32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_framed_as_tensorflow_does() {
        // What `RecordWriter` of TensorBoard 2.21 writes for this event.
        let expected = [
            23, 0, 0, 0, 0, 0, 0, 0, 231, 206, 248, 30, 9, 0, 0, 0, 0, 0, 0, 248, 63, 16, 7, 42, 10, 10, 8,
            10, 1, 97, 21, 0, 0, 0, 0, 79, 33, 105, 165,
        ];
        let summary = Summary { value: vec![Value { tag: "a".into(), simple_value: Some(0.0) }] };
        let event = Event { wall_time: 1.5, step: 7, summary: Some(summary), ..Event::default() };
        assert_eq!(record(&event), expected);
    }
}
