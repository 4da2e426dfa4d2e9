//! An array in the state folder: `docs/schedulers.md` describes its files.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, process};

use super::commands::Programs;
use super::config::Slurm;
use crate::scheduler::shell::{command, enter, path, quote};
use crate::scheduler::{Job, SchedulerError};

/// What `sbatch` says of an array that is larger than the cluster takes.
const ARRAY_REFUSED: &str = "Invalid job array specification";

/// What names of arrays, and so of their folders, begin with.
const PREFIX: &str = "isr-";

/// A task's script.
pub(super) struct Script {
    index: usize,
    text: String,
}

/// An array that was submitted, or is about to be.
pub(super) struct Array {
    folder: PathBuf,
    /// The array's name in Slurm and its folder's.
    pub(super) name: String,
    /// Its id, where `sbatch` had time to tell.
    pub(super) id: Option<String>,
}

impl Array {
    /// Those of earlier calls.
    pub(super) fn all(state: &Path) -> Result<Vec<Self>, SchedulerError> {
        let entries = match fs::read_dir(state) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| SchedulerError::io("read", state, error))?,
        };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| name.starts_with(PREFIX));
        names.sort();
        Ok(names.into_iter().map(|name| Self::open(state.join(&name), name)).collect())
    }

    fn open(folder: PathBuf, name: String) -> Self {
        let id = fs::read_to_string(folder.join("id")).ok().map(|text| text.trim().to_owned());
        Self { folder, name, id }
    }

    /// Writes the files of a new one. Nothing is submitted, and its folder gets its name last.
    pub(super) fn write(state: &Path, jobs: &[Job]) -> Result<Self, SchedulerError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{PREFIX}{:x}-{:x}", now.as_nanos(), process::id());
        let (part, folder) = (state.join(format!(".{name}")), state.join(&name));
        fs::create_dir_all(&part).map_err(|error| SchedulerError::io("create", &part, error))?;
        for (index, job) in jobs.iter().enumerate() {
            write(&part.join(format!("{index}.sh")), &script(&folder, index, job)?)?;
        }
        let home = quote(path(&name, &folder)?);
        write(&part.join("array.sh"), &format!("#!/bin/sh\nexec sh {home}/\"$SLURM_ARRAY_TASK_ID\".sh\n"))?;
        fs::rename(&part, &folder).map_err(|error| SchedulerError::io("rename", &part, error))?;
        Ok(Self { folder, name, id: None })
    }

    /// Submits it; `jobs` are those that it was written from.
    pub(super) async fn submit(
        &mut self,
        programs: &Programs,
        jobs: &[Job],
        slurm: &Slurm,
    ) -> Result<(), SchedulerError> {
        let folder = path(&self.name, &self.folder)?;
        let limit = slurm.jobs.map_or(String::new(), |jobs| format!("%{}", jobs.max(1)));
        let mut arguments = vec![
            "--parsable".to_owned(),
            format!("--array=0-{}{limit}", jobs.len() - 1),
            format!("--job-name={}", self.name),
            // `%` begins a field of Slurm's own.
            format!("--output={}/%a.out", folder.replace('%', "%%")),
            format!("--cpus-per-task={}", jobs[0].cores()),
        ];
        if jobs[0].gpus > 0 {
            arguments.push(format!("--gres=gpu:{}", jobs[0].gpus));
        }
        arguments.extend(slurm.options.iter().cloned());
        arguments.push(format!("{folder}/array.sh"));
        let id = match programs.sbatch(&arguments).await {
            Ok(id) => id,
            Err(error) => {
                self.forget()?;
                return Err(error.with_hint(ARRAY_REFUSED, || {
                    format!(
                        "an array of {} jobs is too large for this cluster: set `max_array` to what \
                         `scontrol show config` says of MaxArraySize",
                        jobs.len()
                    )
                }));
            }
        };
        write(&self.folder.join("id"), &format!("{id}\n"))?;
        self.id = Some(id);
        Ok(())
    }

    /// Its tasks by the names of their jobs. Reads each script once.
    pub(super) fn scripts(&self) -> HashMap<String, Script> {
        let read = |index: usize| fs::read_to_string(self.folder.join(format!("{index}.sh"))).ok();
        let named = |(index, text): (usize, String)| {
            let name = text.lines().next()?.strip_prefix("# ")?.to_owned();
            Some((name, Script { index, text }))
        };
        (0..).map_while(|index| Some((index, read(index)?))).filter_map(named).collect()
    }

    /// Which of its tasks is exactly this job. `scripts` are its [`scripts`](Self::scripts).
    pub(super) fn index_of(
        &self,
        job: &Job,
        scripts: &HashMap<String, Script>,
    ) -> Result<Option<usize>, SchedulerError> {
        match scripts.get(&job.name) {
            Some(found) if found.text == script(&self.folder, found.index, job)? => Ok(Some(found.index)),
            _ => Ok(None),
        }
    }

    /// The exit status that a task's script left.
    pub(super) fn exit(&self, index: usize) -> Option<i32> {
        fs::read_to_string(self.folder.join(format!("{index}.exit"))).ok()?.trim().parse().ok()
    }

    /// Whether any task has ended, so that it was submitted although its id was not written.
    pub(super) fn has_exits(&self) -> bool {
        (0..)
            .take_while(|index| self.folder.join(format!("{index}.sh")).exists())
            .any(|it| self.exit(it).is_some())
    }

    /// Removes its files.
    pub(super) fn forget(&self) -> Result<(), SchedulerError> {
        fs::remove_dir_all(&self.folder).map_err(|error| SchedulerError::io("remove", &self.folder, error))
    }
}

/// What a task runs. Slurm tells all of its processes when it is cancelled; the shell stays to write how the
/// command ended. A task that Slurm starts again takes its exit status back first.
fn script(folder: &Path, index: usize, job: &Job) -> Result<String, SchedulerError> {
    let exit = format!("{}/{index}.exit", path(&job.name, folder)?);
    let (exit, part) = (quote(&exit), quote(&format!("{exit}.part")));
    let variables = job.variables();
    let variables = variables.iter().map(|(name, value)| format!("export {name}={}\n", quote(value)));
    Ok(format!(
        "# {name}\nrm -f {exit}\n{enter}{variables}trap : TERM INT\n{command}\nstatus=$?\n\
         echo $status >{part} && mv {part} {exit}\nexit $status\n",
        name = job.name,
        enter = enter(job)?,
        variables = variables.collect::<String>(),
        command = command(job),
    ))
}

fn write(path: &Path, text: &str) -> Result<(), SchedulerError> {
    fs::write(path, text).map_err(|error| SchedulerError::io("write", path, error))
}
