//! [`Plugins`], the loaded plugin files of a config.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use isr_api::{Cause, Error, Kind, Manifest};

use super::{ManifestSchema as _, Plugin, PluginFile, find, loader};
use crate::registry;

/// Environment variable with directories of plugins.
pub(crate) const FOLDERS: &str = "ISR_PLUGIN_PATH";

/// Most components of a file.
const COMPONENTS: usize = 1000;

/// Loaded plugin files, whose component names are unique among them and among the registered ones. Cheap to
/// clone. A plugin lives until the last clone and the last component built by it are dropped.
#[derive(Clone, Default)]
pub struct Plugins(Arc<Vec<LoadedPlugin>>);

/// A loaded plugin with its path.
#[derive(Clone)]
pub struct LoadedPlugin {
    /// Absolute path of the file; of an installed module its name.
    pub path: PathBuf,
    /// The entry that it was loaded by, with the absolute path of a file.
    pub entry: PluginFile,
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
}

impl Plugins {
    /// Loads files. A bare file name that does not exist is searched in `folders`.
    ///
    /// # Errors
    /// [`Error::Config`] with the file and the reason.
    pub fn load(files: &[PluginFile], folders: &[PathBuf]) -> Result<Self, Error> {
        let mut loaded: Vec<LoadedPlugin> = Vec::new();
        for file in files {
            file.check_named().map_err(Error::Config)?;
            let wrong =
                |reason: String| Error::Config(format!("cannot load plugin {}: {reason}", file.shown()));
            let new = load(file, folders).map_err(wrong)?;
            if loaded.iter().any(|old| old.path == new.path) {
                return Err(wrong("`plugins` names it twice; name it once".to_owned()));
            }
            check_names(&loaded, &new).map_err(wrong)?;
            loaded.push(new);
        }
        Ok(Self(Arc::new(loaded)))
    }

    /// Returns the directories in the environment variable `ISR_PLUGIN_PATH`, which has the syntax of `PATH`.
    pub fn folders() -> Vec<PathBuf> {
        folders(std::env::var_os(FOLDERS).as_deref())
    }

    /// Returns the loaded files, in the order of the config.
    pub fn files(&self) -> &[LoadedPlugin] {
        &self.0
    }

    /// Iterates over all components with their files, in the files' order.
    pub fn components(&self) -> impl Iterator<Item = (&Manifest, &LoadedPlugin)> {
        self.0.iter().flat_map(|loaded| loaded.plugin.manifests().iter().map(move |it| (it, loaded)))
    }

    /// Returns the component of this kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<(&Manifest, &LoadedPlugin)> {
        self.components().find(|(manifest, _)| manifest.kind == kind && manifest.name == name)
    }
}

/// Splits a text with the syntax of `PATH`.
pub(crate) fn folders(named: Option<&OsStr>) -> Vec<PathBuf> {
    let folders = named.into_iter().flat_map(std::env::split_paths);
    folders.filter(|folder| !folder.as_os_str().is_empty()).collect()
}

fn load(file: &PluginFile, folders: &[PathBuf]) -> Result<LoadedPlugin, String> {
    let (path, loader) = match &file.module {
        Some(module) => (PathBuf::from(module), loader::of_modules()?),
        None => {
            let path = find::find(&file.path, folders)?;
            let loader = loader::of(&path)?;
            (path, loader)
        }
    };
    file.validate(loader.options(), loader.what())?;
    let plugin = match &file.module {
        Some(module) => loader.load_module(module, file),
        None => loader.load(&path, file),
    };
    let plugin = plugin.map_err(chain)?;
    if plugin.manifests().is_empty() {
        return Err("it gives no component".to_owned());
    }
    let components = plugin.manifests().len();
    if components > COMPONENTS {
        return Err(format!("it gives {components} components; at most {COMPONENTS} are allowed"));
    }
    plugin.manifests().iter().try_for_each(|manifest| manifest.check(loader.kinds()))?;
    let entry = match file.module {
        Some(_) => file.clone(),
        None => PluginFile { path: path.clone(), ..file.clone() },
    };
    Ok(LoadedPlugin { path, entry, plugin })
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

/// An error with its sources on one line, without repetitions.
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
