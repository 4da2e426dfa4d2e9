//! The traits [`Plugin`] and [`PluginLoader`].

use std::path::Path;
use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Demonstrations, Evaluator, Judge, Kind, Manifest, Observer, Policy,
    PreferenceObjective, Preferences, Retrospector, SampleSource, VideoEncoder,
};
use serde_json::{Map, Value};

use super::{KINDS, PluginFile};

/// A loaded plugin file: the manifests of its components, and their constructors.
///
/// # Contract
/// - Manifests are constant. Constructors are called with a name from [`manifests`](Self::manifests) of their kind
///   and with settings that match its schema.
/// - Errors of loading and building do not name the plugin, since the caller adds the name. Errors of calls on
///   built components name it, by [`PluginError`](super::PluginError).
/// - No call panics, whatever the file contains.
pub trait Plugin: Send + Sync {
    /// Returns the manifests of all components.
    fn manifests(&self) -> &[Manifest];

    /// Checks the ranges of settings, as [`Component::validate`](isr_api::Component::validate). Default: no check.
    fn validate(&self, kind: Kind, name: &str, settings: &Map<String, Value>) -> Result<(), String> {
        let _ = (kind, name, settings);
        Ok(())
    }

    /// Builds a judge. Default: an error, as for the other constructors.
    fn judge(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Judge>, Cause> {
        let _ = with;
        Err(unsupported("judge", name))
    }

    /// Builds a retrospector.
    fn retrospector(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Retrospector>, Cause> {
        let _ = with;
        Err(unsupported("retrospector", name))
    }

    /// Builds a preference objective.
    fn objective(
        &self,
        name: &str,
        with: &PluginSettings<'_>,
    ) -> Result<Arc<dyn PreferenceObjective>, Cause> {
        let _ = with;
        Err(unsupported("objective", name))
    }

    /// Builds a video encoder.
    fn encoder(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn VideoEncoder>, Cause> {
        let _ = with;
        Err(unsupported("encoder", name))
    }

    /// Builds a policy.
    fn policy(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Policy>, Cause> {
        let _ = with;
        Err(unsupported("policy", name))
    }

    /// Builds a source of samples.
    fn data(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn SampleSource>, Cause> {
        let _ = with;
        Err(unsupported("data source", name))
    }

    /// Builds an evaluator.
    fn evaluator(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Evaluator>, Cause> {
        let _ = with;
        Err(unsupported("evaluator", name))
    }

    /// Builds a set of demonstrations.
    fn demonstrations(
        &self,
        name: &str,
        with: &PluginSettings<'_>,
    ) -> Result<Arc<dyn Demonstrations>, Cause> {
        let _ = with;
        Err(unsupported("set of demonstrations", name))
    }

    /// Builds a set of preferences.
    fn preferences(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Preferences>, Cause> {
        let _ = with;
        Err(unsupported("set of preferences", name))
    }

    /// Builds an observer.
    fn observer(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Observer>, Cause> {
        let _ = with;
        Err(unsupported("observer", name))
    }
}

/// The input of a [`Plugin`]'s constructors.
#[derive(Clone, Copy, Debug)]
pub struct PluginSettings<'a> {
    /// Config section of the component without `type`.
    pub settings: &'a Map<String, Value>,
    /// Context of the run.
    pub cx: &'a BuildContext,
}

fn unsupported(kind: &str, name: &str) -> Cause {
    format!("its loader cannot build a {kind}, as which its manifest declares `{name}`").into()
}

/// Loads plugin files with certain file extensions.
pub trait PluginLoader: Send + Sync {
    /// Returns what it loads, for messages: `native library`.
    fn what(&self) -> &'static str;

    /// Returns the file extensions, in lower case and without a dot.
    fn extensions(&self) -> &'static [&'static str];

    /// Returns the kinds of components that its files may give. A file with another is rejected. Default: [`KINDS`].
    fn kinds(&self) -> &'static [Kind] {
        &KINDS
    }

    /// Returns the options of a [`PluginFile`] that it supports. Others are rejected before `load` is called.
    fn options(&self) -> &'static [&'static str];

    /// Loads a file within `options.start_limit()`. The path is absolute.
    ///
    /// # Errors
    /// A short message with the reason and the remedy.
    fn load(&self, path: &Path, options: &PluginFile) -> Result<Arc<dyn Plugin>, Cause>;

    /// Returns whether it also loads installed modules, which have no file. Default: false.
    fn loads_modules(&self) -> bool {
        false
    }

    /// Loads an installed module by its name, as [`load`](Self::load) does a file.
    ///
    /// # Errors
    /// A short message with the reason and the remedy. Default: that it takes files alone.
    fn load_module(&self, module: &str, options: &PluginFile) -> Result<Arc<dyn Plugin>, Cause> {
        let _ = options;
        Err(format!("a {} is a file; `module` cannot name `{module}`", self.what()).into())
    }
}

/// A registered loader. Created by [`register_loader!`](crate::register_loader).
pub struct RegisteredLoader(pub &'static dyn PluginLoader);

inventory::collect!(RegisteredLoader);

/// Registers a plugin loader: `register_loader!(&NativeLoader)`.
#[macro_export]
macro_rules! register_loader {
    ($loader:expr) => {
        const _: () = {
            $crate::__private::inventory::submit! { $crate::plugin::RegisteredLoader($loader) }
        };
    };
}

/// All registered loaders.
pub(super) fn all() -> impl Iterator<Item = &'static dyn PluginLoader> {
    inventory::iter::<RegisteredLoader>.into_iter().map(|registered| registered.0)
}

/// The loader of modules.
pub(super) fn of_modules() -> Result<&'static dyn PluginLoader, String> {
    all()
        .find(|loader| loader.loads_modules())
        .ok_or_else(|| "this program loads no Python modules".to_owned())
}

/// The loader for a file, by extension.
pub(super) fn of(path: &Path) -> Result<&'static dyn PluginLoader, String> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let found = all().find(|loader| loader.extensions().contains(&ending.as_str()));
    found.ok_or_else(|| {
        let mut known: Vec<_> =
            all().flat_map(PluginLoader::extensions).map(|it| format!(".{it}")).collect();
        known.sort();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!("no loader takes files that end like this; known endings: {known}")
    })
}
