//! How the process of a library is started.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use isr_config::plugin::PluginFile;
use isr_protocol::Program;

static HOST: OnceLock<PathBuf> = OnceLock::new();

/// Names the program that hosts isolated libraries, called with `plugins host FILE`: for programs that embed
/// the loop, and are not `isr` themselves. The first call counts. Default: this program.
pub fn use_host(executable: impl Into<PathBuf>) {
    let _ = HOST.set(executable.into());
}

/// How `isr` runs itself as the host of a library.
pub(crate) fn program(path: &Path, options: &PluginFile) -> std::io::Result<Program> {
    let executable = HOST.get().cloned().map_or_else(std::env::current_exe, Ok)?;
    let mut arguments = vec!["plugins".into(), "host".into(), path.into()];
    if let Some(mb) = options.memory_mb {
        arguments.extend(["--memory-mb".into(), mb.to_string().into()]);
    }
    // The end of its stderr should be the error, not a backtrace.
    let environment = vec![("RUST_BACKTRACE".into(), "0".into())];
    Ok(Program { name: path.display().to_string(), executable, arguments, environment, files: None })
}
