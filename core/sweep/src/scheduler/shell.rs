//! Text for `sh`.

use std::path::Path;

use crate::scheduler::{Job, SchedulerError};

/// A word that `sh` reads as this text.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A path as text.
///
/// # Errors
/// Where it is not UTF-8: neither scripts nor JSON could name it.
pub(crate) fn path<'a>(job: &str, path: &'a Path) -> Result<&'a str, SchedulerError> {
    path.to_str()
        .ok_or_else(|| SchedulerError::job(job, format!("{} is not UTF-8; rename it", path.display())))
}

/// Lines that make the log's folder, send all output there, and go to the job's folder.
pub(crate) fn enter(job: &Job) -> Result<String, SchedulerError> {
    let (dir, log) = (path(&job.name, &job.dir)?, path(&job.name, &job.log)?);
    let folder = job.log.parent().map_or(Ok("/"), |folder| path(&job.name, folder))?;
    Ok(format!(
        "mkdir -p {} && exec >>{} 2>&1 </dev/null && cd {} || exit 1\n",
        quote(folder),
        quote(log),
        quote(dir)
    ))
}

/// Program and arguments.
pub(crate) fn command(job: &Job) -> String {
    job.command.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}
