//! [`PluginFile`], an entry of a config's `plugins`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A plugin with its limits: the path of a file, or a table with `path` or `module` and other keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Written", into = "Written")]
pub struct PluginFile {
    /// Path of the file, relative to the config file or else to the working directory; or a name to search in the
    /// directories of the environment variable `ISR_PLUGIN_PATH`. Empty where a `module` is named.
    pub path: PathBuf,
    /// Name of an installed Python module, such as `isr_transformers`, in place of a file.
    pub module: Option<String>,
    /// Process in which a native library runs. Default `in_process`.
    pub isolation: Option<Isolation>,
    /// Timeout of a call in seconds: longest time in which the plugin neither replies nor calls the policy.
    /// Default 60; of policies and encoders in processes 600.
    pub call_s: Option<f64>,
    /// Timeout of loading and construction, in seconds. Default 60.
    pub start_s: Option<f64>,
    /// Memory limit in MiB. Default: that of the loader.
    pub memory_mb: Option<u64>,
    /// Limit of WebAssembly instructions per call. Default: that of the loader.
    pub fuel: Option<u64>,
    /// Restarts of a plugin process that exits without having replied to a call. Default 3.
    pub restarts: Option<u32>,
    /// Directories that a WebAssembly plugin may read. Default none.
    pub read: Vec<PathBuf>,
    /// Python interpreter: a path, or a program on `PATH`. Default: the environment variable `ISR_PYTHON`, else
    /// `python3`.
    pub python: Option<PathBuf>,
}

/// Process in which a plugin runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// The process of the run. Fastest, but a plugin that hangs or aborts takes the run with it.
    InProcess,
    /// A process of its own, which is killed at a timeout.
    Process,
}

/// The serialised form: a path, or a table.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    Path(PathBuf),
    Table(Table),
}

#[derive(Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Table {
    /// Path of the file; this or `module`.
    #[serde(default, skip_serializing_if = "is_empty")]
    path: PathBuf,
    /// Name of an installed Python module, such as `isr_transformers`, in place of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    module: Option<String>,
    /// Process in which a native library runs. Default `in_process`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    isolation: Option<Isolation>,
    /// Timeout of a call in seconds: longest time without a reply or a call of the policy. Default 60; of policies and
    /// encoders in processes 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call_s: Option<f64>,
    /// Timeout of loading and construction, in seconds. Default 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_s: Option<f64>,
    /// Memory limit in MiB. Default: that of the loader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_mb: Option<u64>,
    /// Limit of WebAssembly instructions per call. Default: that of the loader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fuel: Option<u64>,
    /// Restarts of a plugin process that exits without having replied to a call. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restarts: Option<u32>,
    /// Directories that a WebAssembly plugin may read. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    read: Vec<PathBuf>,
    /// Python interpreter: a path, or a program on `PATH`. Default: the environment variable `ISR_PYTHON`, else
    /// `python3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    python: Option<PathBuf>,
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl From<Written> for PluginFile {
    fn from(written: Written) -> Self {
        let table = match written {
            Written::Path(path) => Table { path, ..Table::default() },
            Written::Table(table) => table,
        };
        let Table { path, module, isolation, call_s, start_s, memory_mb, fuel, restarts, read, python } =
            table;
        Self { path, module, isolation, call_s, start_s, memory_mb, fuel, restarts, read, python }
    }
}

impl From<PluginFile> for Written {
    fn from(file: PluginFile) -> Self {
        let PluginFile {
            path,
            module,
            isolation,
            call_s,
            start_s,
            memory_mb,
            fuel,
            restarts,
            read,
            python,
        } = file;
        let alone = Table { path: path.clone(), ..Table::default() };
        let table =
            Table { path, module, isolation, call_s, start_s, memory_mb, fuel, restarts, read, python };
        if table == alone { Self::Path(alone.path) } else { Self::Table(table) }
    }
}

impl PluginFile {
    /// Creates an entry without options.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Creates an entry of an installed Python module, without options.
    pub fn of_module(module: impl Into<String>) -> Self {
        Self { module: Some(module.into()), ..Self::default() }
    }

    /// Returns what is loaded, for messages: the path, or the module's name.
    pub fn shown(&self) -> String {
        self.module.clone().unwrap_or_else(|| self.path.display().to_string())
    }

    /// Checks that either a path or a module is named.
    pub(super) fn check_named(&self) -> Result<(), String> {
        match (&self.module, is_empty(&self.path)) {
            (None, true) => {
                Err("an entry of `plugins` names nothing; give it a `path` or a `module`".to_owned())
            }
            (Some(module), false) => Err(format!(
                "an entry of `plugins` names the path {} and the module {module}; name one of the two",
                self.path.display()
            )),
            (Some(module), true) if !module.split('.').all(is_identifier) => {
                Err(format!("`{module}` is no name of a Python module, such as `package.module`"))
            }
            _ => Ok(()),
        }
    }

    /// Returns the timeout of a call: `call_s`, else 60 s.
    pub fn call_limit(&self) -> Duration {
        self.call_limit_or(Duration::from_secs(60))
    }

    /// Returns the timeout of a call, with another default.
    pub fn call_limit_or(&self, default: Duration) -> Duration {
        self.call_s.map_or(default, Duration::from_secs_f64)
    }

    /// Returns the timeout of loading and construction.
    pub fn start_limit(&self) -> Duration {
        Duration::from_secs_f64(self.start_s.unwrap_or(60.0))
    }

    /// Returns whether the plugin runs in a process of its own.
    pub fn isolated(&self) -> bool {
        self.isolation == Some(Isolation::Process)
    }

    /// Checks the ranges of options, and that the loader supports them (`understood`).
    pub(super) fn validate(&self, understood: &[&str], loader: &str) -> Result<(), String> {
        for (name, seconds) in [("call_s", self.call_s), ("start_s", self.start_s)] {
            if let Some(seconds) = seconds.filter(|it| !(*it > 0.0 && *it <= 1e6)) {
                return Err(format!("`{name}` is {seconds}; it must be more than 0 and at most 1000000"));
            }
        }
        if self.memory_mb.is_some_and(|mb| mb == 0 || mb > 1 << 24) {
            return Err("`memory_mb` must be 1 to 16777216".to_owned());
        }
        let given = [
            ("isolation", self.isolation.is_some()),
            ("call_s", self.call_s.is_some()),
            ("start_s", self.start_s.is_some()),
            ("memory_mb", self.memory_mb.is_some()),
            ("fuel", self.fuel.is_some()),
            ("restarts", self.restarts.is_some()),
            ("read", !self.read.is_empty()),
            ("python", self.python.is_some()),
        ];
        match given.into_iter().find(|(name, given)| *given && !understood.contains(name)) {
            Some((name, _)) => {
                Err(format!("`{name}` means nothing to a {loader}, which takes {}", understood.join(", ")))
            }
            None => Ok(()),
        }
    }
}

fn is_identifier(part: &str) -> bool {
    !part.starts_with(|c: char| c.is_numeric())
        && !part.is_empty()
        && part.chars().all(|c| c == '_' || c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_a_file_or_a_module() {
        let named = |text: &str| {
            let entry: PluginFile = serde_json::from_str(text).unwrap();
            entry.check_named().map(|()| entry.shown())
        };
        assert_eq!(named(r#""brevity.py""#), Ok("brevity.py".to_owned()));
        assert_eq!(
            named(r#"{"module": "isr_transformers.policy"}"#),
            Ok("isr_transformers.policy".to_owned())
        );
        for (text, says) in [
            (r#"{"call_s": 3}"#, "names nothing; give it a `path` or a `module`"),
            (r#"{"path": "a.py", "module": "a"}"#, "names the path a.py and the module a"),
            (r#"{"module": "-c"}"#, "`-c` is no name of a Python module"),
            (r#"{"module": "a..b"}"#, "no name of a Python module"),
        ] {
            let refused = named(text).unwrap_err();
            assert!(refused.contains(says), "{text}: {refused}");
        }
        let module = PluginFile { call_s: Some(3.0), ..PluginFile::of_module("it") };
        let written = serde_json::to_string(&module).unwrap();
        assert_eq!(written, r#"{"module":"it","call_s":3.0}"#);
        assert_eq!(serde_json::from_str::<PluginFile>(&written).unwrap(), module);
        assert_eq!(serde_json::to_string(&PluginFile::new("a.py")).unwrap(), r#""a.py""#);
    }
}
