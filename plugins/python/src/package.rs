//! The Python package `isr_plugin`, in a folder for interpreters to find.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use isr_api::FingerprintBuilder;
use isr_config::cache_dir;
use tempfile::TempDir;

const FILES: [(&str, &str); 10] = [
    ("__init__.py", include_str!("../isr_plugin/__init__.py")),
    ("__main__.py", include_str!("../isr_plugin/__main__.py")),
    ("_component.py", include_str!("../isr_plugin/_component.py")),
    ("_models.py", include_str!("../isr_plugin/_models.py")),
    ("_policy.py", include_str!("../isr_plugin/_policy.py")),
    ("_reasoning.py", include_str!("../isr_plugin/_reasoning.py")),
    ("_rows.py", include_str!("../isr_plugin/_rows.py")),
    ("_server.py", include_str!("../isr_plugin/_server.py")),
    ("_video.py", include_str!("../isr_plugin/_video.py")),
    ("_wire.py", include_str!("../isr_plugin/_wire.py")),
];

/// A folder with the package in it.
pub(crate) struct Package {
    /// The folder, for `PYTHONPATH`.
    pub(crate) path: PathBuf,
    /// Its owner where it is temporary.
    pub(crate) temporary: Option<TempDir>,
}

/// Returns the package in the user's cache, written there once, or in a temporary folder where that cannot be written.
pub(crate) fn write() -> io::Result<Package> {
    if let Some(path) = cache_dir("python").and_then(|cache| cached(&cache).ok()) {
        return Ok(Package { path, temporary: None });
    }
    let folder = tempfile::Builder::new().prefix("isr-python-").tempdir()?;
    write_into(folder.path())?;
    Ok(Package { path: folder.path().to_owned(), temporary: Some(folder) })
}

/// Returns the folder of this version in a cache.
fn cached(cache: &Path) -> io::Result<PathBuf> {
    let mut digest = FingerprintBuilder::default();
    for (name, text) in FILES {
        digest.update(name.as_bytes()).update(text.as_bytes());
    }
    let folder = cache.join(digest.finish().as_str());
    if !is_whole(&folder) {
        fs::create_dir_all(cache)?;
        let aside = tempfile::Builder::new().prefix(".new-").tempdir_in(cache)?;
        write_into(aside.path())?;
        // Another process may have been faster; one whose files were changed is replaced.
        if fs::rename(aside.path(), &folder).is_err() && !is_whole(&folder) {
            fs::remove_dir_all(&folder)?;
            fs::rename(aside.path(), &folder)?;
        }
    }
    Ok(folder)
}

fn is_whole(folder: &Path) -> bool {
    let package = folder.join("isr_plugin");
    FILES.iter().all(|(name, text)| fs::read(package.join(name)).is_ok_and(|read| read == text.as_bytes()))
}

fn write_into(folder: &Path) -> io::Result<()> {
    let package = folder.join("isr_plugin");
    fs::create_dir(&package)?;
    FILES.iter().try_for_each(|(name, text)| fs::write(package.join(name), text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use super::*;

    #[test]
    fn every_file_of_the_package_is_in_it() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("isr_plugin");
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .filter(|path| path.extension().is_some_and(|it| it == "py"))
            .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        files.sort();
        assert_eq!(files, FILES.map(|(name, _)| name));
    }

    #[test]
    fn the_package_is_written_once_and_again_where_it_was_changed() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cached(cache.path()).unwrap();
        let (file, wire) = (folder.join("isr_plugin/__init__.py"), folder.join("isr_plugin/_wire.py"));
        let written = fs::metadata(&file).unwrap().modified().unwrap();
        assert_eq!(cached(cache.path()).unwrap(), folder);
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);
        fs::write(&wire, "raise SystemExit").unwrap();
        assert_eq!(cached(cache.path()).unwrap(), folder);
        assert!(is_whole(&folder));
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 1, "nothing is left aside");
    }
}
