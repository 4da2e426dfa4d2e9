//! Python's package installer, used as a downloader.

use std::fs;
use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

const NO_PYTHON: &str = "no Python 3 with pip was found; hint: install it \
     (Debian, Ubuntu: `apt-get install python3-pip python3-venv`)";

/// An interpreter that has pip.
pub(crate) struct Pip {
    python: &'static str,
}

impl Pip {
    /// Looks for an interpreter on `PATH`.
    pub(crate) fn find() -> Result<Self> {
        for python in ["python3", "python"] {
            if process::capture(Command::new(python).args(["-m", "pip", "--version"])).is_ok() {
                return Ok(Self { python });
            }
        }
        bail!(NO_PYTHON)
    }

    /// Name of the interpreter.
    pub(crate) fn python(&self) -> &'static str {
        self.python
    }

    /// Installs packages into a folder of their own, which must not exist yet.
    ///
    /// pip unpacks below `target` too, so that the folder's file system is the
    /// only one that needs room.
    pub(crate) fn install_into(&self, target: &Path, arguments: &[&str]) -> Result<()> {
        let scratch = target.join("pip-scratch");
        fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
        let mut command = Command::new(self.python);
        command
            .args(["-m", "pip", "install", "--no-compile", "--target"])
            .arg(target)
            .args(arguments)
            .env("TMPDIR", &scratch);
        install(&mut command)?;
        fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))
    }
}

/// Runs a `pip install` command, without questions and without advertisement.
pub(crate) fn install(command: &mut Command) -> Result<()> {
    if !stderr().is_terminal() {
        command.env("PIP_PROGRESS_BAR", "off");
    }
    command
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .env("PIP_NO_INPUT", "1")
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .env("PIP_USER", "0");
    process::run(command).context(
        "pip could not install (its message is above); hint: it needs network access to a \
         package index, PIP_INDEX_URL names another one; then run `cargo xtask setup` again",
    )
}
