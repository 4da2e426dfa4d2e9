//! A job as Ray is asked to run it, and the file that remembers so.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, process};

use serde_json::{Value, json};

use crate::scheduler::shell::{command, enter};
use crate::scheduler::{Job, SchedulerError};

/// A submission: made now, or found from an earlier call.
pub(super) struct Submission {
    /// Its id, ours and so known before it is submitted.
    pub(super) id: String,
    /// What Ray is asked.
    pub(super) body: Value,
    file: PathBuf,
}

impl Submission {
    /// That of an earlier call for exactly this job, else a new one, which is written down.
    pub(super) fn of(state: &Path, job: &Job) -> Result<Self, SchedulerError> {
        let file = state.join(format!("{}.json", job.name));
        let mut body = request(job)?;
        if let Some(id) = earlier(&file, &body) {
            body["submission_id"] = json!(id);
            return Ok(Self { id, body, file });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let id = format!("isr-{}-{:x}-{:x}", job.name, now.as_nanos(), process::id());
        body["submission_id"] = json!(id);
        let part = state.join(format!(".{}.json", job.name));
        fs::create_dir_all(state).map_err(|error| SchedulerError::io("create", state, error))?;
        fs::write(&part, body.to_string()).map_err(|error| SchedulerError::io("write", &part, error))?;
        fs::rename(&part, &file).map_err(|error| SchedulerError::io("rename", &part, error))?;
        Ok(Self { id, body, file })
    }

    /// Removes the file, once the job's end was told.
    pub(super) fn forget(&self) -> Result<(), SchedulerError> {
        fs::remove_file(&self.file).map_err(|error| SchedulerError::io("remove", &self.file, error))
    }
}

/// The id in the file, if it is of a job that asks for the same.
fn earlier(file: &Path, asked: &Value) -> Option<String> {
    let mut found: Value = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    let id = found.as_object_mut()?.remove("submission_id")?;
    (found == *asked).then(|| id.as_str().map(str::to_owned))?
}

fn request(job: &Job) -> Result<Value, SchedulerError> {
    let variables: serde_json::Map<_, _> =
        job.variables().into_iter().map(|(name, value)| (name, json!(value))).collect();
    Ok(json!({
        "entrypoint": format!("{}exec {}", enter(job)?, command(job)),
        "entrypoint_num_cpus": job.cores(),
        "entrypoint_num_gpus": job.gpus,
        "runtime_env": { "env_vars": variables },
        "metadata": { "job": job.name },
    }))
}
