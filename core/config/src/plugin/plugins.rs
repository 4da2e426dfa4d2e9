//! The plugins of a config.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use isr_api::{Cause, Error, Kind, Manifest};

use super::{ManifestSchema as _, Plugin, PluginFile, find, loader};
use crate::registry;

/// Environment variable that names folders of plugins.
pub(crate) const FOLDERS: &str = "ISR_PLUGIN_PATH";

/// LoadedPlugin plugin files, with names that are unique among them and among what is registered. Cheap to
/// clone; a file's plugin lives as long as a clone, or as what it has built.
#[derive(Clone, Default)]
pub struct Plugins(Arc<Vec<LoadedPlugin>>);

/// A plugin and its file.
#[derive(Clone)]
pub struct LoadedPlugin {
    /// The file, absolute.
    pub path: PathBuf,
    /// What was loaded.
    pub plugin: Arc<dyn Plugin>,
}

impl Plugins {
    /// Loads files. Those that are named without a folder are looked for in `folders` too.
    ///
    /// # Errors
    /// [`Error::Config`], naming the file and what is wrong with it.
    pub fn load(files: &[PluginFile], folders: &[PathBuf]) -> Result<Self, Error> {
        let mut loaded: Vec<LoadedPlugin> = Vec::new();
        for file in files {
            let wrong = |reason: String| {
                Error::Config(format!("cannot load plugin {}: {reason}", file.path.display()))
            };
            let new = load(file, folders).map_err(wrong)?;
            if loaded.iter().any(|old| old.path == new.path) {
                return Err(wrong("`plugins` names it twice; name it once".to_owned()));
            }
            check_names(&loaded, &new).map_err(wrong)?;
            loaded.push(new);
        }
        Ok(Self(Arc::new(loaded)))
    }

    /// The folders that the environment variable `ISR_PLUGIN_PATH` names, as `PATH` does.
    pub fn folders() -> Vec<PathBuf> {
        folders(std::env::var_os(FOLDERS).as_deref())
    }

    /// The files.
    pub fn files(&self) -> &[LoadedPlugin] {
        &self.0
    }

    /// All components with their files, in the files' order.
    pub fn components(&self) -> impl Iterator<Item = (&Manifest, &LoadedPlugin)> {
        self.0.iter().flat_map(|loaded| loaded.plugin.manifests().iter().map(move |it| (it, loaded)))
    }

    /// The component of that kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<(&Manifest, &LoadedPlugin)> {
        self.components().find(|(manifest, _)| manifest.kind == kind && manifest.name == name)
    }
}

/// The folders of a text like that of `PATH`.
pub(crate) fn folders(named: Option<&OsStr>) -> Vec<PathBuf> {
    let folders = named.into_iter().flat_map(std::env::split_paths);
    folders.filter(|folder| !folder.as_os_str().is_empty()).collect()
}

fn load(file: &PluginFile, folders: &[PathBuf]) -> Result<LoadedPlugin, String> {
    let path = find::find(&file.path, folders)?;
    let loader = loader::of(&path)?;
    file.validate(loader.options(), loader.what())?;
    let plugin = loader.load(&path, file).map_err(chain)?;
    if plugin.manifests().is_empty() {
        return Err("it gives no component".to_owned());
    }
    plugin.manifests().iter().try_for_each(Manifest::check)?;
    Ok(LoadedPlugin { path, plugin })
}

fn check_names(loaded: &[LoadedPlugin], new: &LoadedPlugin) -> Result<(), String> {
    for (index, manifest) in new.plugin.manifests().iter().enumerate() {
        let Manifest { kind, name, .. } = manifest;
        let same = |other: &Manifest| other.kind == *kind && other.name == *name;
        let taken = format!("the name of its {} `{name}` is taken", kind.section());
        if registry::find(*kind, name).is_some() {
            return Err(format!("{taken} by a built-in one; rename it in the plugin"));
        }
        if let Some(old) = loaded.iter().find(|old| old.plugin.manifests().iter().any(same)) {
            return Err(format!("{taken} by {}; name one of the two files", old.path.display()));
        }
        if new.plugin.manifests()[..index].iter().any(same) {
            return Err(format!("{taken} by another of the same file"));
        }
    }
    Ok(())
}

/// A cause and its causes on one line, each only if it says something new.
fn chain(cause: Cause) -> String {
    let mut line = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(&format!(": {text}"));
        }
        next = cause.source();
    }
    line
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|loaded| &loaded.path)).finish()
    }
}

impl fmt::Debug for LoadedPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedPlugin").field("path", &self.path).finish_non_exhaustive()
    }
}
