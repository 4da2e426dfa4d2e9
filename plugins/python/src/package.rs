//! The Python package `isr_plugin`, in a folder for interpreters to find.

use std::fs;
use std::io;

use tempfile::TempDir;

const FILES: [(&str, &str); 9] = [
    ("__init__.py", include_str!("../isr_plugin/__init__.py")),
    ("__main__.py", include_str!("../isr_plugin/__main__.py")),
    ("_component.py", include_str!("../isr_plugin/_component.py")),
    ("_models.py", include_str!("../isr_plugin/_models.py")),
    ("_policy.py", include_str!("../isr_plugin/_policy.py")),
    ("_rows.py", include_str!("../isr_plugin/_rows.py")),
    ("_server.py", include_str!("../isr_plugin/_server.py")),
    ("_video.py", include_str!("../isr_plugin/_video.py")),
    ("_wire.py", include_str!("../isr_plugin/_wire.py")),
];

/// Writes the package into a new folder, which is removed with the value.
pub(crate) fn write() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("isr-python-").tempdir()?;
    let package = folder.path().join("isr_plugin");
    fs::create_dir(&package)?;
    for (name, text) in FILES {
        fs::write(package.join(name), text)?;
    }
    Ok(folder)
}
