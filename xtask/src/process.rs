//! Running other programs, with errors that name the command.

use std::env;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// Runs a command with this program's own output streams; fails unless it
/// exits with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|e| not_started(command, &e))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Runs apt-get without questions.
pub(crate) fn apt(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut command)
}

/// Runs a command silently and returns its standard output; its error output
/// is shown only in the error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|e| not_started(command, &e))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", line(command), output.status, stderr.trim());
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote something that is not UTF-8", line(command)))
}

/// The command as one would type it: without its environment, and with `cargo`
/// for the path of the cargo that runs us.
pub(crate) fn line(command: &Command) -> String {
    let program = command.get_program();
    let ours = env::var_os("CARGO").is_some_and(|cargo| cargo == program);
    let mut words = vec![if ours { "cargo".into() } else { program.to_string_lossy() }];
    words.extend(command.get_args().map(|a| a.to_string_lossy()));
    words.join(" ")
}

/// The error for a program that could not be started at all.
pub(crate) fn not_started(command: &Command, error: &std::io::Error) -> anyhow::Error {
    let program = command.get_program().to_string_lossy();
    if error.kind() == ErrorKind::NotFound {
        anyhow!("`{program}` was not found on PATH")
    } else {
        anyhow!("cannot start `{}`: {error}", line(command))
    }
}
