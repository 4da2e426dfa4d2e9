//! Search for plugin files.

use std::path::{Path, PathBuf};

use super::loader::{self, PluginLoader};

/// Rewrites paths in a config's `plugins` that exist relative to the config file, so that they are relative to the
/// working directory like all other paths. Other paths stay as they are.
pub(crate) fn beside(directory: &Path, plugins: &mut toml::Value) {
    let toml::Value::Array(items) = plugins else { return };
    for item in items {
        let path = match item {
            toml::Value::Table(table) => table.get_mut("path"),
            other => Some(other),
        };
        if let Some(toml::Value::String(path)) = path {
            let near = directory.join(&*path);
            if near.is_file() {
                *path = from_here(&near);
            }
        }
    }
}

/// An existing path, relative to the working directory if it is below that, else absolute.
pub(super) fn from_here(path: &Path) -> String {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let below = here.ok().and_then(|here| real.strip_prefix(here).map(Path::to_owned).ok());
    below.unwrap_or(real).to_string_lossy().into_owned()
}

/// The absolute path of a plugin file: relative to the working directory, else by name in `folders`.
pub(super) fn find(path: &Path, folders: &[PathBuf]) -> Result<PathBuf, String> {
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| error.to_string());
    if path.is_file() {
        return absolute(path);
    }
    if path.is_dir() {
        return Err("it is a folder; name a file".to_owned());
    }
    let bare = path.components().count() == 1;
    if bare && let Some(found) = folders.iter().find_map(|folder| named(folder, path)) {
        return absolute(&found);
    }
    let near = crate::did_you_mean(path);
    let searched = match (bare, folders.len()) {
        (true, 0) => {
            "; the environment variable ISR_PLUGIN_PATH, which may name folders of plugins, is not set"
                .to_owned()
        }
        (true, _) => {
            let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
            format!(", nor a plugin of that name in ISR_PLUGIN_PATH ({})", folders.join(", "))
        }
        (false, _) => String::new(),
    };
    Err(format!("there is no such file{searched}{near}"))
}

/// Finds `brevity` as `brevity`, `brevity.py` or `libbrevity.so` in a directory.
fn named(folder: &Path, name: &Path) -> Option<PathBuf> {
    let exact = folder.join(name);
    if exact.is_file() {
        return Some(exact);
    }
    let stem = name.to_str()?;
    let files = loader::all().flat_map(PluginLoader::extensions).flat_map(|extension| {
        let plain = format!("{stem}.{extension}");
        [plain.clone(), format!("lib{plain}"), format!("lib{}", plain.replace('-', "_"))]
    });
    files.map(|file| folder.join(file)).find(|path| path.is_file())
}
