//! [`Loader`]: reads, merges and checks the layers of a config.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use isr_api::Error;
use serde_json::Value;

use super::check::Checker;
use super::layer::{Layer, RawOverride};
use super::output::schema_of;
use super::{Validate, diagnostics, files, merge};
use crate::plugin::{self, PluginFile, Plugins};

/// A loaded config with the origins of its values.
#[derive(Debug)]
pub struct LoadedConfig<T> {
    /// The config.
    pub value: T,
    /// The resolved config as JSON, defaults included.
    pub settings: Value,
    /// Origin of every value that is not a default: key path to file name, environment variable or `-s`.
    pub origins: BTreeMap<String, String>,
    /// The plugins that the config names.
    pub plugins: Plugins,
}

impl<T: Validate> LoadedConfig<T> {
    /// A config that was built in code, checked as one that is read from files.
    ///
    /// # Errors
    /// [`Error::Config`], with all values that are out of range.
    pub fn of(value: T) -> Result<Self, Error> {
        reject_invalid(&value, &BTreeMap::new())?;
        let settings = serde_json::to_value(&value).map_err(|error| Error::Config(error.to_string()))?;
        let settings = plugin::untag(settings);
        Ok(Self { value, settings, origins: BTreeMap::new(), plugins: Plugins::default() })
    }
}

/// Loads a config from layers: files and texts in the order in which they are added, above them environment
/// variables, above those overrides.
///
/// ```no_run
/// use isr_config::{Loader, RunConfig};
///
/// let loader = Loader::new().file("configs/demo.toml").environment().overrides(["loop.iterations=3"]);
/// let config = loader.load::<RunConfig>()?;
/// # Ok::<(), isr_api::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Loader {
    inputs: Vec<Input>,
    variables: Variables,
    overrides: Vec<String>,
    leaves_plugins_out: bool,
}

#[derive(Clone, Debug)]
enum Input {
    File(PathBuf),
    Text { name: String, text: String, directory: PathBuf },
}

#[derive(Clone, Debug, Default)]
enum Variables {
    #[default]
    None,
    Process,
    Given(BTreeMap<String, String>),
}

impl Loader {
    /// Creates a loader without layers, which yields the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a TOML file with the files that it extends.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.inputs.push(Input::File(path.into()));
        self
    }

    /// Adds a TOML text. `name` is its name in messages; files that it extends are relative to `directory`.
    pub fn text(
        mut self,
        name: impl Into<String>,
        text: impl Into<String>,
        directory: impl AsRef<Path>,
    ) -> Self {
        let directory = directory.as_ref().to_owned();
        self.inputs.push(Input::Text { name: name.into(), text: text.into(), directory });
        self
    }

    /// Reads the environment variables of the process: `ISR__POLICY__MODEL=x` sets `policy.model` to `x`.
    pub fn environment(mut self) -> Self {
        self.variables = Variables::Process;
        self
    }

    /// Reads these environment variables instead of those of the process.
    pub fn variables<K: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let owned = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        self.variables = Variables::Given(owned.collect());
        self
    }

    /// Adds overrides `key=value`; later ones take precedence. The value is parsed as TOML (`3`, `[1, 2]`,
    /// `{type = "dpo"}`). It is a string if it is not TOML, or if the key is of type string.
    pub fn overrides<S: Into<String>>(mut self, overrides: impl IntoIterator<Item = S>) -> Self {
        self.overrides.extend(overrides.into_iter().map(Into::into));
        self
    }

    /// Has [`check`](Self::check) load no plugin if `leave_out` is true.
    pub fn without_plugins(mut self, leave_out: bool) -> Self {
        self.leaves_plugins_out = leave_out;
        self
    }

    /// Checks the config as [`load`](Self::load) does. Returns the components that were left unchecked: those that are
    /// not registered, where plugins are named and [left out](Self::without_plugins).
    ///
    /// # Errors
    /// [`Error::Config`] with all problems of the config.
    pub fn check<T: Validate>(&self) -> Result<Vec<String>, Error> {
        let layers = self.layers()?;
        let merged = merge::merge(&layers)?;
        let names_plugins = match &merged.kind {
            config::ValueKind::Table(table) => table.contains_key("plugins"),
            _ => false,
        };
        if !self.leaves_plugins_out || !names_plugins {
            return self.load::<T>().map(|_| Vec::new());
        }
        let raw_overrides: Vec<RawOverride> =
            layers.into_iter().flat_map(|layer| layer.raw_overrides).collect();
        let schema = schema_of::<T>().to_value();
        let mut checker = Checker::new(&schema, &raw_overrides).without_plugins();
        checker.value("", &merged, &schema);
        let unchecked = checker.take_unchecked();
        checker.finish()?;
        if unchecked.is_empty() {
            read::<T>(&merged, &raw_overrides, Plugins::default())?;
        }
        Ok(unchecked)
    }

    /// Merges the layers, checks every key and value, and deserialises the result.
    ///
    /// # Errors
    /// [`Error::Config`] with all problems of the config.
    pub fn load<T: Validate>(&self) -> Result<LoadedConfig<T>, Error> {
        let layers = self.layers()?;
        let merged = merge::merge(&layers)?;
        let raw_overrides: Vec<RawOverride> =
            layers.into_iter().flat_map(|layer| layer.raw_overrides).collect();
        let plugins = match schema_of::<T>().to_value().pointer("/properties/plugins") {
            Some(_) => self.load_plugins(&merged, &raw_overrides)?,
            None => Plugins::default(),
        };
        plugin::with_plugins(&plugins.clone(), || read(&merged, &raw_overrides, plugins))
    }

    /// Returns the top-level keys of the config, which tell which command it is for. Checks nothing.
    ///
    /// # Errors
    /// [`Error::Config`] for a file that cannot be read or is no TOML.
    pub fn sections(&self) -> Result<BTreeSet<String>, Error> {
        let merged = merge::merge(&self.layers()?)?;
        Ok(match merged.kind {
            config::ValueKind::Table(table) => table.into_keys().collect(),
            _ => BTreeSet::new(),
        })
    }

    /// Loads the plugins of the config without checking its other sections.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid section `plugins` or the first file that cannot be loaded.
    pub fn plugins(&self) -> Result<Plugins, Error> {
        let layers = self.layers()?;
        let merged = merge::merge(&layers)?;
        let raw_overrides: Vec<RawOverride> =
            layers.into_iter().flat_map(|layer| layer.raw_overrides).collect();
        self.load_plugins(&merged, &raw_overrides)
    }

    fn load_plugins(
        &self,
        merged: &config::Value,
        raw_overrides: &[RawOverride],
    ) -> Result<Plugins, Error> {
        let config::ValueKind::Table(table) = &merged.kind else { return Ok(Plugins::default()) };
        let Some(named) = table.get("plugins") else { return Ok(Plugins::default()) };
        let schema = schemars::schema_for!(Vec<PluginFile>).to_value();
        let mut checker = Checker::new(&schema, raw_overrides);
        let files = checker.value("plugins", named, &schema);
        checker.finish()?;
        let files: Vec<PluginFile> = serde_json::from_value(files)
            .map_err(|error| Error::Config(format!("`plugins` cannot be read: {error}")))?;
        Plugins::load(&files, &self.plugin_folders())
    }

    fn plugin_folders(&self) -> Vec<PathBuf> {
        match &self.variables {
            Variables::None => Vec::new(),
            Variables::Process => Plugins::folders(),
            Variables::Given(given) => plugin::folders(given.get(plugin::FOLDERS).map(OsStr::new)),
        }
    }

    fn layers(&self) -> Result<Vec<Layer>, Error> {
        let mut layers = Vec::new();
        for input in &self.inputs {
            layers.extend(match input {
                Input::File(path) => files::read(path)?,
                Input::Text { name, text, directory } => files::read_text(name, text, directory)?,
            });
        }
        match &self.variables {
            Variables::None => {}
            Variables::Process => layers.push(Layer::from_variables(None)?),
            Variables::Given(given) => layers.push(Layer::from_variables(Some(given.clone()))?),
        }
        layers.push(Layer::from_overrides(&self.overrides)?);
        Ok(layers)
    }
}

fn read<T: Validate>(
    merged: &config::Value,
    raw_overrides: &[RawOverride],
    plugins: Plugins,
) -> Result<LoadedConfig<T>, Error> {
    let schema = schema_of::<T>().to_value();
    let mut checker = Checker::new(&schema, raw_overrides);
    let settings = checker.value("", merged, &schema);
    let origins = checker.finish()?;
    let value: T = serde_json::from_value(settings)
        .map_err(|error| Error::Config(format!("the config cannot be read: {error}")))?;
    reject_invalid(&value, &origins)?;
    let settings = serde_json::to_value(&value).map_err(|error| Error::Config(error.to_string()))?;
    Ok(LoadedConfig { value, settings: plugin::untag(settings), origins, plugins })
}

fn reject_invalid<T: Validate>(value: &T, origins: &BTreeMap<String, String>) -> Result<(), Error> {
    let invalid = value.invalid().into_iter().map(|invalid| {
        let origin = origins.get(&invalid.key).map(|origin| format!(" in {origin}")).unwrap_or_default();
        format!("`{}`{origin} {}", invalid.key, invalid.reason)
    });
    diagnostics::reject(invalid.collect())
}
