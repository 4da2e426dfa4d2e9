//! What turns files into plugins.

use std::path::Path;
use std::sync::Arc;

use isr_api::{
    BuildContext, Cause, Judge, Kind, Manifest, Policy, PreferenceObjective, Retrospector, VideoEncoder,
};
use serde_json::{Map, Value};

use super::PluginFile;

/// A loaded plugin file: the manifests of its components, and what builds them.
///
/// # Contract
/// - Manifests do not change. The methods that build are called with names of [`manifests`](Self::manifests)
///   of their kind, and with settings that fit its schema.
/// - Errors name what went wrong, not the plugin: the caller does that for loading and building. Errors of
///   calls on what was built name it themselves; [`PluginError`](super::PluginError) is for that.
/// - No call panics, whatever the file does.
pub trait Plugin: Send + Sync {
    /// The components that it gives.
    fn manifests(&self) -> &[Manifest];

    /// Names the first setting that is out of range, as [`Component::validate`](isr_api::Component::validate).
    fn validate(&self, kind: Kind, name: &str, settings: &Map<String, Value>) -> Result<(), String> {
        let _ = (kind, name, settings);
        Ok(())
    }

    /// Builds the judge of that name.
    fn judge(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Judge>, Cause> {
        let _ = with;
        Err(unsupported("judge", name))
    }

    /// Builds the retrospector of that name.
    fn retrospector(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Retrospector>, Cause> {
        let _ = with;
        Err(unsupported("retrospector", name))
    }

    /// Builds the objective of that name.
    fn objective(
        &self,
        name: &str,
        with: &PluginSettings<'_>,
    ) -> Result<Arc<dyn PreferenceObjective>, Cause> {
        let _ = with;
        Err(unsupported("objective", name))
    }

    /// Builds the encoder of that name.
    fn encoder(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn VideoEncoder>, Cause> {
        let _ = with;
        Err(unsupported("encoder", name))
    }

    /// Builds the policy of that name.
    fn policy(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Policy>, Cause> {
        let _ = with;
        Err(unsupported("policy", name))
    }
}

/// What a component is built from.
#[derive(Clone, Copy, Debug)]
pub struct PluginSettings<'a> {
    /// The section's keys but `type`.
    pub settings: &'a Map<String, Value>,
    /// The rest of the run.
    pub cx: &'a BuildContext,
}

fn unsupported(kind: &str, name: &str) -> Cause {
    format!("its loader cannot build a {kind}, as which its manifest declares `{name}`").into()
}

/// Loads the plugin files of some endings.
pub trait PluginLoader: Send + Sync {
    /// What it loads, for messages: `native library`.
    fn what(&self) -> &'static str;

    /// The endings, without a dot, in lower case.
    fn extensions(&self) -> &'static [&'static str];

    /// The options of a [`PluginFile`] that it honours; others are refused before `load` is called.
    fn options(&self) -> &'static [&'static str];

    /// Loads a file, whose path is absolute, within `options.start_limit()`.
    ///
    /// # Errors
    /// One short message that says why the file is no plugin that this program can use, and what to do.
    fn load(&self, path: &Path, options: &PluginFile) -> Result<Arc<dyn Plugin>, Cause>;
}

/// A loader that is known; made by [`register_loader!`](crate::register_loader).
pub struct RegisteredLoader(pub &'static dyn PluginLoader);

inventory::collect!(RegisteredLoader);

/// Declares a loader of plugins: `register_loader!(&NativeLoader)`.
#[macro_export]
macro_rules! register_loader {
    ($loader:expr) => {
        const _: () = {
            $crate::__private::inventory::submit! { $crate::plugin::RegisteredLoader($loader) }
        };
    };
}

/// All known loaders.
pub(super) fn all() -> impl Iterator<Item = &'static dyn PluginLoader> {
    inventory::iter::<RegisteredLoader>.into_iter().map(|registered| registered.0)
}

/// The loader of a file.
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
