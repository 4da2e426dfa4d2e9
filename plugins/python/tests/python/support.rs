//! Plugin files, and what is built from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{BuildContext, Judge, PreferenceObjective};
use isr_config::plugin::{Plugin, PluginFile, PluginLoader, PluginSettings};
use isr_python::PythonLoader;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A plugin file with this text, and limits that a busy machine keeps.
pub(crate) struct File {
    folder: TempDir,
    pub(crate) options: PluginFile,
}

impl File {
    /// `body` follows the import.
    pub(crate) fn new(body: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("import os, sys, time\nfrom isr_plugin import *\n\n{body}\n");
        fs::write(folder.path().join("plugin.py"), text).unwrap();
        let options = PluginFile { call_s: Some(60.0), start_s: Some(120.0), ..PluginFile::default() };
        Self { folder, options }
    }

    /// A judge `it` whose method `judge` has this body.
    pub(crate) fn judging(body: &str) -> Self {
        let body: String = body.lines().map(|line| format!("        {line}\n")).collect();
        Self::new(&format!(
            "class It(Judge):\n    'Judges.'\n    defaults = {{'mode': ''}}\n    def judge(self, case):\n{body}"
        ))
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut PluginFile)) -> Self {
        change(&mut self.options);
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("plugin.py")
    }

    /// A file beside the plugin.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn load(&self) -> Result<Arc<dyn Plugin>, String> {
        load(&self.path(), &self.options)
    }

    pub(crate) fn judge(&self) -> Result<Arc<dyn Judge>, String> {
        judge(&*self.load()?, "it", &json!({}))
    }

    pub(crate) fn objective(&self) -> Result<Arc<dyn PreferenceObjective>, String> {
        objective(&*self.load()?, "it")
    }
}

pub(crate) fn load(path: &Path, options: &PluginFile) -> Result<Arc<dyn Plugin>, String> {
    PythonLoader.load(path, options).map_err(|error| error.to_string())
}

pub(crate) fn judge(plugin: &dyn Plugin, name: &str, settings: &Value) -> Result<Arc<dyn Judge>, String> {
    let (settings, cx) = (settings.as_object().unwrap(), &BuildContext::default());
    plugin.judge(name, &PluginSettings { settings, cx }).map_err(|error| error.to_string())
}

pub(crate) fn objective(plugin: &dyn Plugin, name: &str) -> Result<Arc<dyn PreferenceObjective>, String> {
    let (settings, cx) = (&Map::new(), &BuildContext::default());
    plugin.objective(name, &PluginSettings { settings, cx }).map_err(|error| error.to_string())
}

/// The example of the repository.
pub(crate) fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/plugins/judge-python/evidence.py")
}

/// Direct preference optimisation with beta = 1.
pub(crate) const DPO: &str = r#"
import math

class It(Objective):
    "DPO."

    def evaluate(self, chosen, rejected):
        pairs = zip(chosen.policy, chosen.reference, rejected.policy, rejected.reference)
        margins = [(a - b) - (c - d) for a, b, c, d in pairs]
        n = len(margins)
        losses = [math.log1p(math.exp(-abs(m))) + max(-m, 0.0) for m in margins]
        slopes = [-0.5 * (1.0 - math.tanh(0.5 * m)) / n for m in margins]
        gradients = [slopes, [-slope for slope in slopes]]
        return sum(losses) / n, gradients, {"reward_margin": sum(margins) / n}
"#;
