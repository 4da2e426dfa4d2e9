//! An entry of a config's `plugins`.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A plugin file and what it may use: a path, or a table with `path` and other keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Written", into = "Written")]
pub struct PluginFile {
    /// The file, relative to the config file that names it, else to the working directory; or a name that
    /// is found in a folder of the environment variable `ISR_PLUGIN_PATH`.
    pub path: PathBuf,
    /// Where a native library runs. Default `in_process`.
    pub isolation: Option<Isolation>,
    /// Longest silence in a call, in seconds: time in which the plugin neither answers nor asks the policy.
    /// Default 60.
    pub call_s: Option<f64>,
    /// Longest time to load and construct, in seconds. Default 60.
    pub start_s: Option<f64>,
    /// Most memory in MiB. Default: the loader's.
    pub memory_mb: Option<u64>,
    /// Most instructions of a call, of WebAssembly. Default: the loader's.
    pub fuel: Option<u64>,
    /// How often a process that ended is started again without having answered a call. Default 3.
    pub restarts: Option<u32>,
    /// Folders that a WebAssembly plugin may read. Default none.
    pub read: Vec<PathBuf>,
    /// The interpreter of a Python plugin: a path, or a program on `PATH`. Default `ISR_PYTHON` of the
    /// environment, else `python3`.
    pub python: Option<PathBuf>,
}

/// Where a plugin runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// In this process: fastest; one that never returns or that aborts cannot be stopped.
    InProcess,
    /// In a process of its own, which is ended when it is silent for too long.
    Process,
}

/// A path, or a table.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    Path(PathBuf),
    Table(Table),
}

#[derive(Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Table {
    /// The file.
    path: PathBuf,
    /// Where a native library runs. Default `in_process`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    isolation: Option<Isolation>,
    /// Longest silence in a call, in seconds. Default 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call_s: Option<f64>,
    /// Longest time to load and construct, in seconds. Default 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_s: Option<f64>,
    /// Most memory in MiB. Default: the loader's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_mb: Option<u64>,
    /// Most instructions of a call, of WebAssembly. Default: the loader's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fuel: Option<u64>,
    /// How often a process that ended is started again without having answered a call. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restarts: Option<u32>,
    /// Folders that a WebAssembly plugin may read. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    read: Vec<PathBuf>,
    /// The interpreter of a Python plugin: a path, or a program on `PATH`. Default `ISR_PYTHON` of the
    /// environment, else `python3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    python: Option<PathBuf>,
}

impl From<Written> for PluginFile {
    fn from(written: Written) -> Self {
        let table = match written {
            Written::Path(path) => Table { path, ..Table::default() },
            Written::Table(table) => table,
        };
        let Table { path, isolation, call_s, start_s, memory_mb, fuel, restarts, read, python } = table;
        Self { path, isolation, call_s, start_s, memory_mb, fuel, restarts, read, python }
    }
}

impl From<PluginFile> for Written {
    fn from(file: PluginFile) -> Self {
        let PluginFile { path, isolation, call_s, start_s, memory_mb, fuel, restarts, read, python } = file;
        let alone = Table { path: path.clone(), ..Table::default() };
        let table = Table { path, isolation, call_s, start_s, memory_mb, fuel, restarts, read, python };
        if table == alone { Self::Path(alone.path) } else { Self::Table(table) }
    }
}

impl PluginFile {
    /// A file without options.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Longest silence in a call.
    pub fn call_limit(&self) -> Duration {
        Duration::from_secs_f64(self.call_s.unwrap_or(60.0))
    }

    /// Longest time to load and construct.
    pub fn start_limit(&self) -> Duration {
        Duration::from_secs_f64(self.start_s.unwrap_or(60.0))
    }

    /// Whether it runs in a process of its own.
    pub fn isolated(&self) -> bool {
        self.isolation == Some(Isolation::Process)
    }

    /// Names the first option that is out of range, or that a loader has no use for.
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
