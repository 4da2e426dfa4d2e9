//! Names and shapes of the tensors that a config requires, and the files that they are found in.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use tch::Kind;

use super::Quantization;
use super::nf4::Nf4;
use super::nf4_files;
use super::output_layer::HEAD;
use crate::error::{Result, TorchError};
use crate::tensors::{Stored, TensorFolder};

/// Tensor names and shapes that a config requires of its checkpoint.
pub(crate) struct TensorLayout<'a> {
    /// Maps a stored name to the canonical name.
    pub(crate) rename: &'a dyn Fn(&str) -> String,
    /// Shapes of all tensors, by canonical name.
    pub(crate) expected: HashMap<String, Vec<i64>>,
    /// Returns whether a further tensor is skipped.
    pub(crate) ignored: &'a dyn Fn(&str) -> bool,
    /// Returns whether a further tensor is kept and saved unchanged.
    pub(crate) carried: &'a dyn Fn(&str) -> bool,
    /// Prefix of the tower's canonical names.
    pub(crate) tower: &'a str,
    /// Folder of the tower's tensors (`vision_model....`), used if the checkpoint has none.
    pub(crate) beside: Option<PathBuf>,
}

/// Expected tensor found in a file.
pub(crate) struct Found<'f> {
    pub(super) files: &'f TensorFolder,
    pub(super) stored: &'f Stored,
    /// Whether the file is in the checkpoint folder itself.
    pub(super) is_own: bool,
}

impl Found<'_> {
    /// Returns the number of elements.
    pub(crate) fn count(&self) -> u64 {
        // Two weights a byte.
        self.stored.count() as u64 * if self.is_quantised() { 2 } else { 1 }
    }

    /// Returns the bytes of the tensor in 4 bits, if it is or is to be quantised.
    pub(crate) fn four_bits(&self, name: &str, quantization: Option<Quantization>) -> Option<u64> {
        let count = self.count();
        if self.is_quantised() {
            return Some(nf4_files::bytes(self.files, self.stored));
        }
        let how = quantization.filter(|_| is_decoder_linear(name, self.stored))?;
        Some(Nf4::bytes_of(count, how == Quantization::Nf4Double))
    }

    /// Returns whether the tensor is in 4 bits.
    pub(crate) fn is_quantised(&self) -> bool {
        nf4_files::is_quantised(self.files, self.stored)
    }
}

impl TensorLayout<'_> {
    /// Opens a checkpoint folder, and the tower's own folder if the checkpoint has no tower.
    pub(crate) fn open(&self, folder: &Path) -> Result<Vec<TensorFolder>> {
        let files = TensorFolder::open(folder)?;
        let has_tower =
            files.tensors.iter().any(|stored| (self.rename)(&stored.name).starts_with(self.tower));
        match &self.beside {
            Some(beside) if !has_tower => Ok(vec![files, TensorFolder::open(beside)?]),
            _ => Ok(vec![files]),
        }
    }

    /// Finds the expected tensors by the headers of the opened folders, of which the first is the checkpoint's.
    ///
    /// # Errors
    /// Tensors that do not fit, listed.
    pub(crate) fn checked<'f>(&self, sources: &'f [TensorFolder]) -> Result<BTreeMap<String, Found<'f>>> {
        let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
        for (index, files) in sources.iter().enumerate() {
            for stored in &files.tensors {
                if nf4_files::is_part(files, stored) {
                    continue;
                }
                let is_own = index == 0;
                let is_quantised = nf4_files::is_quantised(files, stored);
                let Some(name) = self.name(&stored.name, is_own) else { continue };
                let shape = self.expected.get(&name);
                if shape.is_none() && !(self.carried)(&name) {
                    problems.push(format!("unexpected {name}"));
                }
                if let Some(shape) = shape.filter(|shape| **shape != stored.shape && !is_quantised) {
                    problems.push(format!("{name} has shape {:?}, expected {shape:?}", stored.shape));
                }
                if !is_quantised && files.kind(stored)? == Kind::Int64 {
                    let text =
                        format!("{name} has type {:?}, a floating-point one is expected", stored.dtype);
                    problems.push(text);
                }
                let again: Option<Found<'f>> = found.insert(name, Found { files, stored, is_own });
                if let Some(other) = again {
                    problems.push(format!("{} and {} are the same tensor", other.stored.name, stored.name));
                }
            }
        }
        let missing = self.expected.iter().filter(|(name, _)| !found.contains_key(*name));
        problems.extend(missing.map(|(name, shape)| match name.as_str() {
            HEAD => format!(
                "missing lm_head.weight {shape:?} (if the output layer is the embedding, set tie_word_embeddings = true)"
            ),
            _ => format!("missing {name} {shape:?}"),
        }));
        match (problems.is_empty(), sources) {
            (true, _) | (_, []) => Ok(found),
            (false, [files, ..]) => Err(TorchError::checkpoint(&files.path, listed(problems))),
        }
    }

    /// Returns the canonical name of a stored tensor; `None` if it is skipped.
    fn name(&self, stored: &str, is_own: bool) -> Option<String> {
        if is_own {
            return Some((self.rename)(stored)).filter(|name| !(self.ignored)(name));
        }
        let name = format!("{}{}", self.tower, stored.strip_prefix("vision_model.")?);
        self.expected.contains_key(&name).then_some(name)
    }
}

fn listed(mut problems: Vec<String>) -> String {
    problems.sort();
    let count = problems.len();
    problems.truncate(12);
    let more = match count - problems.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("{count} tensors do not fit config.json: {}{more}", problems.join("; "))
}

/// Returns whether a tensor is the weight of a linear layer of the decoder, but its output layer.
pub(super) fn is_decoder_linear(name: &str, stored: &Stored) -> bool {
    name.starts_with("language_model.model.layers.") && name.ends_with(".weight") && stored.shape.len() == 2
}
