//! `manifest.json`: sizes and BLAKE3 digests of a checkpoint's files, to detect damaged copies on loading.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Result, TorchError};
use crate::json_file;

const NAME: &str = "manifest.json";

/// Maximum size in bytes of files whose digest is verified at every load, which takes milliseconds.
const SMALL: u64 = 16 << 20;

/// Size and digest of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    /// Size in bytes.
    pub(crate) bytes: u64,
    /// BLAKE3 digest in hexadecimal.
    pub(crate) blake3: String,
}

/// Content of `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Version of the format: 1.
    schema: u32,
    /// Every other file of the folder, by name.
    files: BTreeMap<String, FileRecord>,
}

impl Manifest {
    /// Creates an empty manifest.
    pub(crate) fn new() -> Self {
        Self { schema: 1, files: BTreeMap::new() }
    }

    /// Records a file whose digest is known.
    pub(crate) fn record(&mut self, name: &str, record: FileRecord) {
        self.files.insert(name.to_owned(), record);
    }

    /// Returns what is recorded, for [`add`](Self::add).
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self).map_err(|error| TorchError::Engine(error.to_string()))
    }

    /// Adds the files that another manifest records.
    pub(crate) fn add(&mut self, other: &[u8]) -> Result<()> {
        let other: Self =
            serde_json::from_slice(other).map_err(|error| TorchError::Engine(error.to_string()))?;
        self.files.extend(other.files);
        Ok(())
    }

    /// Records the folder's other files, and writes the manifest.
    pub(crate) fn write(mut self, folder: &Path) -> Result<()> {
        for entry in std::fs::read_dir(folder).map_err(TorchError::io("read", folder))? {
            let path = entry.map_err(TorchError::io("read", folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_file() && name != NAME && !self.files.contains_key(&name) {
                let bytes = size(&path)?;
                self.files.insert(name, FileRecord { bytes, blake3: digest(&path)? });
            }
        }
        let path = folder.join(NAME);
        let value = serde_json::to_value(&self)
            .map_err(|error| TorchError::checkpoint(&path, format!("cannot be written: {error}")))?;
        json_file::write(&path, &value)
    }
}

/// Verifies a checkpoint against its manifest, if it has one: the size of every file, and the digests of small
/// files, or of all files if `thorough`.
///
/// # Errors
/// A missing or changed file, by name.
pub(crate) fn verify(folder: &Path, thorough: bool) -> Result<()> {
    let path = folder.join(NAME);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(TorchError::io("read", &path))?,
    };
    let manifest: Manifest = serde_json::from_str(&text)
        .map_err(|error| TorchError::checkpoint(&path, format!("is no manifest: {error}")))?;
    for (name, record) in &manifest.files {
        let file = folder.join(name);
        let wrong = |what: String| {
            let remedy = "fetch or copy the checkpoint again (or, if it was changed on purpose, remove manifest.json)";
            Err(TorchError::checkpoint(&file, format!("{what}; {remedy}")))
        };
        if !file.exists() {
            return wrong("is missing, but manifest.json lists it".to_owned());
        }
        let bytes = size(&file)?;
        if bytes != record.bytes {
            return wrong(format!("has {bytes} bytes, but manifest.json says {}", record.bytes));
        }
        if (thorough || bytes <= SMALL) && digest(&file)? != record.blake3 {
            return wrong("is not the file whose digest is in manifest.json".to_owned());
        }
    }
    Ok(())
}

fn size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).map_err(TorchError::io("read", path))?.len())
}

fn digest(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(TorchError::io("read", path))?;
    let mut block = Vec::new();
    loop {
        block.clear();
        let read = (&mut file).take(SMALL).read_to_end(&mut block).map_err(TorchError::io("read", path))?;
        if read == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update_rayon(&block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_cut_or_missing_file_is_named_and_others_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a.json", "b.json"] {
            std::fs::write(at(name), "{}\n").unwrap();
        }
        verify(folder.path(), true).unwrap();
        Manifest::new().write(folder.path()).unwrap();
        std::fs::write(at("notes.txt"), "mine").unwrap();
        verify(folder.path(), true).unwrap();
        let refused = |folder: &Path| verify(folder, false).unwrap_err().to_string();
        std::fs::write(at("a.json"), "[]\n").unwrap();
        assert!(refused(folder.path()).contains("a.json: is not the file"), "{}", refused(folder.path()));
        std::fs::write(at("a.json"), "{").unwrap();
        assert!(refused(folder.path()).contains("a.json: has 1 bytes, but manifest.json says 3"));
        std::fs::remove_file(at("a.json")).unwrap();
        assert!(refused(folder.path()).contains("a.json: is missing"));
    }

    #[test]
    fn the_digest_of_a_large_file_is_compared_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.bin");
        let mut bytes = vec![7_u8; SMALL as usize + 1];
        std::fs::write(&path, &bytes).unwrap();
        Manifest::new().write(folder.path()).unwrap();
        bytes[99] = 8;
        std::fs::write(&path, &bytes).unwrap();
        verify(folder.path(), false).unwrap();
        assert!(verify(folder.path(), true).unwrap_err().to_string().contains("large.bin"));
    }
}
