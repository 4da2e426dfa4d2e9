//! Vision towers stored outside their checkpoint.

use std::path::{Path, PathBuf};

/// Finds the folder of the tower that a config names: the named path, or a folder of that name inside or beside
/// the checkpoint.
pub(crate) fn find(checkpoint: &Path, name: &str) -> Option<PathBuf> {
    let base = Path::new(name).file_name()?;
    let around = [Some(checkpoint), checkpoint.parent()].into_iter().flatten();
    let near = around.flat_map(|place| [place.join(name), place.join(base)]);
    near.into_iter().find(|place| place != checkpoint && place.join("config.json").exists())
}
