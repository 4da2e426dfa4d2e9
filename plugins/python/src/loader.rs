//! Loads plugin files that end in `.py`.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use isr_api::{Cause, Kind};
use isr_config::plugin::{Plugin, PluginFile, PluginLoader};
use isr_protocol::{KINDS, Program, RemotePlugin};

use crate::package;

/// Runs Python files with the interpreter that `python` names, else `ISR_PYTHON` of the environment, else
/// `python3`.
pub struct PythonLoader;

impl PluginLoader for PythonLoader {
    fn what(&self) -> &'static str {
        "Python plugin"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["py"]
    }

    fn kinds(&self) -> &'static [Kind] {
        &KINDS
    }

    fn options(&self) -> &'static [&'static str] {
        &["call_s", "start_s", "restarts", "python"]
    }

    fn load(&self, path: &Path, options: &PluginFile) -> Result<Arc<dyn Plugin>, Cause> {
        let served = Served { name: path.display().to_string(), arguments: vec![path.into()] };
        Ok(Arc::new(RemotePlugin::load(program(served, options)?, options)?))
    }

    fn loads_modules(&self) -> bool {
        true
    }

    fn load_module(&self, module: &str, options: &PluginFile) -> Result<Arc<dyn Plugin>, Cause> {
        let served = Served { name: module.to_owned(), arguments: vec!["--module".into(), module.into()] };
        Ok(Arc::new(RemotePlugin::load(program(served, options)?, options)?))
    }
}

isr_config::register_loader!(&PythonLoader);

/// A file or a module, as arguments of the package.
struct Served {
    /// Its name in errors.
    name: String,
    arguments: Vec<OsString>,
}

/// `python3 -m isr_plugin FILE`, with the package of this program.
fn program(served: Served, options: &PluginFile) -> Result<Program, Cause> {
    let package = package::write()
        .map_err(|error| format!("the Python package isr_plugin cannot be written: {error}"))?;
    let mut folders = vec![package.path.clone()];
    folders.extend(env::var_os("PYTHONPATH").iter().flat_map(env::split_paths));
    let variable = |name: &str, value: OsString| (OsString::from(name), value);
    let python = options.python.clone().or_else(|| env::var_os("ISR_PYTHON").map(PathBuf::from));
    Ok(Program {
        name: served.name,
        executable: python.unwrap_or_else(|| PathBuf::from("python3")),
        arguments: ["-m".into(), "isr_plugin".into()].into_iter().chain(served.arguments).collect(),
        environment: vec![
            variable("PYTHONPATH", env::join_paths(folders)?),
            // What it prints is seen when it is printed.
            variable("PYTHONUNBUFFERED", "1".into()),
            variable("PYTHONIOENCODING", "utf-8".into()),
        ],
        files: package.temporary.map(Arc::new),
    })
}
