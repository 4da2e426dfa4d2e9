//! Command line of a plugin's process.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

/// A program that speaks the protocol on its standard input and output.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its name in errors and in the log, such as the plugin's file.
    pub name: String,
    /// The executable.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables, added to those of this process.
    pub environment: Vec<(OsString, OsString)>,
    /// A temporary folder that it needs, removed with the last clone.
    pub files: Option<Arc<TempDir>>,
}

impl Program {
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}
