//! Files of the optimiser's state.
//!
//! `optimizer.json` has the number of steps. The tensors are in `optimizer.safetensors`; where several processes divide the
//! state, in a file of each, `optimizer-00001-of-00004.safetensors`, and `optimizer.json` says which elements of each
//! parameter, row-major, are in which. Any number of processes reads what any other has written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::group::{common, part};
use crate::error::{Result, TorchError};
use crate::manifest::Manifest;
use crate::tensors::{Stored, TensorFolder, write_tensors};

const DESCRIPTION: &str = "optimizer.json";
const SINGLE: &str = "optimizer.safetensors";

/// Content of `optimizer.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) steps: i64,
    /// Files of a divided state, by process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) shards: Vec<Shard>,
}

/// File of one process.
#[derive(Serialize, Deserialize)]
pub(super) struct Shard {
    pub(super) file: String,
    /// First element and end of each parameter's part.
    pub(super) elements: BTreeMap<String, [i64; 2]>,
}

/// Returns the name of a process's file.
pub(super) fn shard_name(rank: usize, count: usize) -> String {
    format!("optimizer-{:05}-of-{count:05}.safetensors", rank + 1)
}

/// Writes the tensors of a process, and with those of the first `optimizer.json`.
pub(super) fn write(
    dir: &Path,
    description: &Description,
    rank: usize,
    tensors: &BTreeMap<String, Tensor>,
    manifest: &mut Manifest,
) -> Result<()> {
    let name = description.shards.get(rank).map_or(SINGLE, |shard| shard.file.as_str());
    manifest.record(name, write_tensors(&dir.join(name), tensors)?);
    if rank > 0 {
        return Ok(());
    }
    let path = dir.join(DESCRIPTION);
    let text = match description.shards.is_empty() {
        true => format!("{{\"steps\": {}}}", description.steps),
        false => serde_json::to_string(description)
            .map_err(|error| TorchError::checkpoint(&path, format!("cannot be written: {error}")))?,
    };
    std::fs::write(&path, format!("{text}\n")).map_err(TorchError::io("write", &path))
}

/// Opened files of a state.
pub(super) struct StateFiles {
    steps: i64,
    files: Vec<StateFile>,
}

struct StateFile {
    path: PathBuf,
    folder: TensorFolder,
    /// `None` if the file has whole parameters.
    elements: Option<BTreeMap<String, [i64; 2]>>,
}

impl StateFiles {
    /// Opens the files of a folder.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(DESCRIPTION);
        let text = std::fs::read_to_string(&path).map_err(TorchError::io("read", &path))?;
        let Description { steps, shards } = serde_json::from_str(&text)
            .map_err(|error| TorchError::checkpoint(&path, error.to_string()))?;
        if let Some(shard) = shards
            .iter()
            .find(|shard| Path::new(&shard.file).file_name().is_none_or(|name| name != &*shard.file))
        {
            return Err(TorchError::checkpoint(
                path,
                format!("names `{}`, which is no file name", shard.file),
            ));
        }
        let open = |name: &str, elements| {
            let path = dir.join(name);
            Ok(StateFile { folder: TensorFolder::open_file(&path)?, path, elements })
        };
        let files = match shards.is_empty() {
            true => vec![open(SINGLE, None)?],
            false => shards
                .into_iter()
                .map(|shard| open(&shard.file, Some(shard.elements)))
                .collect::<Result<_>>()?,
        };
        Ok(Self { steps, files })
    }

    /// Returns the number of steps that were taken.
    pub(super) fn steps(&self) -> i64 {
        self.steps
    }

    /// Reads the `elements` of `what` of a parameter to the CPU, flat; `None` if no file has any. `unit` maps elements of the
    /// parameter to those of `what`.
    ///
    /// # Errors
    /// Another shape or dtype than the parameter's, or elements that are missing.
    pub(super) fn read(
        &self,
        what: &str,
        (name, parameter): (&str, &Tensor),
        kind: Kind,
        elements: &Range<i64>,
        unit: &dyn Fn(&Range<i64>) -> Range<i64>,
    ) -> Result<Option<Tensor>> {
        let wanted = unit(elements);
        let target = Tensor::f_zeros([wanted.end - wanted.start], (kind, Device::Cpu))?;
        let (mut found, mut done) = (false, 0);
        for file in &self.files {
            let Some((stored, range)) = file.find(what, (name, parameter), kind, unit)? else { continue };
            found = true;
            let here = common(&range, elements);
            if here.is_empty() {
                continue;
            }
            let (from, to) = (unit(&here).start - unit(&range).start, unit(&here).start - wanted.start);
            let count = unit(&here).end - unit(&here).start;
            file.folder.read_elements(stored, from, &part(&target, &(to..to + count))?)?;
            done += here.end - here.start;
        }
        if found && done != elements.end - elements.start {
            let reason = format!(
                "its files hold {done} of {} elements of {what}.{name}",
                elements.end - elements.start
            );
            return Err(TorchError::checkpoint(&self.files[0].path, reason));
        }
        Ok(found.then_some(target))
    }
}

impl StateFile {
    /// Returns a tensor of a parameter, checked, and the parameter's elements that it is of.
    fn find(
        &self,
        what: &str,
        (name, parameter): (&str, &Tensor),
        kind: Kind,
        unit: &dyn Fn(&Range<i64>) -> Range<i64>,
    ) -> Result<Option<(&Stored, Range<i64>)>> {
        let full = format!("{what}.{name}");
        let Ok(at) = self.folder.tensors.binary_search_by(|stored| stored.name.cmp(&full)) else {
            return Ok(None);
        };
        let stored = &self.folder.tensors[at];
        let refused =
            |reason: &str| Err(TorchError::checkpoint(&self.path, format!("{full} has {reason}")));
        let count = parameter.numel() as i64;
        let range = match &self.elements {
            None => 0..count,
            Some(elements) => match elements.get(name) {
                Some(&[start, end]) if (0..=end).contains(&start) && end <= count => start..end,
                _ => return refused("no such elements as optimizer.json says"),
            },
        };
        let expected = unit(&range).end - unit(&range).start;
        let is_whole = self.elements.is_none() && expected == count;
        if stored.count() != expected || is_whole && stored.shape != parameter.size() {
            return refused("another shape");
        }
        if self.folder.any_kind(stored)? != kind {
            return refused("the dtype of another `training.optimizer`");
        }
        Ok(Some((stored, range)))
    }
}
