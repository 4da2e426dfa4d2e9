//! Sections of a config that name components of a library.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use isr_api::{
    BuildContext, Cause, ComponentError, Judge, Kind, Policy, PreferenceObjective, Verdict, VideoEncoder,
};
use isr_config::plugin::{PluginFile, PluginSettings, Plugins};
use isr_testing::FakePolicy;
// Registers the loader.
use isr_native as _;
use serde_json::{Map, Value};
use tracing_subscriber::fmt::MakeWriter;

use crate::built::fixture;

/// Loads a library.
pub(crate) fn load(path: &Path) -> Plugins {
    Plugins::load(&[PluginFile::new(path)], &[]).unwrap()
}

/// Loads the fixture with limits.
pub(crate) fn fixture_within(call_s: f64, start_s: f64) -> Plugins {
    let file = PluginFile { call_s: Some(call_s), start_s: Some(start_s), ..PluginFile::new(fixture()) };
    Plugins::load(&[file], &[]).unwrap()
}

/// The settings of one behaviour.
pub(crate) fn behaviour(text: &str) -> Map<String, Value> {
    Map::from_iter([("behaviour".to_owned(), text.into())])
}

/// Builds a judge as a config would.
pub(crate) fn judge(
    plugins: &Plugins,
    name: &str,
    settings: &Map<String, Value>,
) -> Result<Arc<dyn Judge>, Cause> {
    let (_, loaded) = plugins.find(Kind::Judge, name).unwrap();
    loaded.plugin.judge(name, &PluginSettings { settings, cx: &BuildContext::default() })
}

/// Builds an objective as a config would.
pub(crate) fn objective(
    plugins: &Plugins,
    name: &str,
    settings: &Map<String, Value>,
) -> Result<Arc<dyn PreferenceObjective>, Cause> {
    let (_, loaded) = plugins.find(Kind::Objective, name).unwrap();
    loaded.plugin.objective(name, &PluginSettings { settings, cx: &BuildContext::default() })
}

/// Builds a policy as a config would.
pub(crate) fn policy(
    plugins: &Plugins,
    name: &str,
    settings: &Map<String, Value>,
) -> Result<Arc<dyn Policy>, Cause> {
    let (_, loaded) = plugins.find(Kind::Policy, name).unwrap();
    loaded.plugin.policy(name, &PluginSettings { settings, cx: &BuildContext::default() })
}

/// Builds an encoder as a config would.
pub(crate) fn encoder(
    plugins: &Plugins,
    name: &str,
    settings: &Map<String, Value>,
) -> Result<Arc<dyn VideoEncoder>, Cause> {
    let (_, loaded) = plugins.find(Kind::Encoder, name).unwrap();
    loaded.plugin.encoder(name, &PluginSettings { settings, cx: &BuildContext::default() })
}

/// What a judge says of an ordinary case.
pub(crate) async fn verdict(judge: &Arc<dyn Judge>) -> Result<Verdict, ComponentError> {
    let policy = Arc::new(FakePolicy::default());
    judge.judge(&isr_testing::fixtures::case("a red bar.", "a blue bar."), &policy.frozen()).await
}

/// What the process has logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Waits until the text is there.
    pub(crate) fn has(&self, text: &str) -> bool {
        for _ in 0..400 {
            if self.text().contains(text) {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        false
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The log of this process.
pub(crate) fn log() -> &'static Log {
    static LOG: std::sync::OnceLock<Log> = std::sync::OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        tracing_subscriber::fmt().with_ansi(false).with_writer(log.clone()).init();
        log
    })
}
