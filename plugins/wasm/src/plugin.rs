//! A loaded WebAssembly file.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use isr_api::{Cause, Judge, Kind, Manifest, PreferenceObjective, Retrospector};
use isr_config::plugin::{Plugin, PluginSettings};
use serde_json::{Value, json};
use wasmtime::component::{Component, InstancePre};

use crate::bindings::judge::JudgePluginPre;
use crate::bindings::objective::ObjectivePluginPre;
use crate::bindings::objective_by_name::ObjectiveByNamePluginPre;
use crate::bindings::retrospector::RetrospectorPluginPre;
use crate::bindings::types;
use crate::component::{ObjectiveExport, Shared, WasmJudge, WasmObjective, WasmRetrospector};
use crate::error::SandboxError;
use crate::module;
use crate::sandbox::{self, Call, Limits, State};

/// The world that a file exports, ready to be instantiated.
enum World {
    Judge(JudgePluginPre<State>),
    Retrospector(RetrospectorPluginPre<State>),
    Objective(ObjectiveExport),
}

/// Calls a function of the interface `plugin`, whatever world exports it.
macro_rules! call_plugin {
    ($world:expr, $store:ident, $function:ident($($argument:expr),*)) => {
        match $world {
            World::Judge(it) => it.instantiate_async(&mut *$store).await?.isr_plugin_plugin().$function($store, $($argument),*).await,
            World::Retrospector(it) => it.instantiate_async(&mut *$store).await?.isr_plugin_plugin().$function($store, $($argument),*).await,
            World::Objective(ObjectiveExport::ByView(it)) => {
                it.instantiate_async(&mut *$store).await?.isr_plugin_plugin().$function($store, $($argument),*).await
            }
            World::Objective(ObjectiveExport::ByName(it)) => {
                it.instantiate_async(&mut *$store).await?.isr_plugin_plugin().$function($store, $($argument),*).await
            }
        }
    };
}

/// A file's one component.
pub(crate) struct WasmPlugin {
    world: World,
    limits: Arc<Limits>,
    manifest: Manifest,
}

impl WasmPlugin {
    pub(crate) fn load(path: &Path, limits: Limits) -> Result<Self, SandboxError> {
        let bytes = read(path)?;
        let component = sandbox::compile(limits.start, || module::component(bytes))?;
        let import = |error: wasmtime::Error| SandboxError::Import(format!("{error:#}"));
        let instance = sandbox::linker()?.instantiate_pre(&component).map_err(import)?;
        let world = World::of(&component, instance)?;
        let starting = Limits { call: limits.start, ..limits.clone() };
        let described = world.describe(&path.display().to_string(), &Arc::new(starting))?;
        let manifest = manifest(world.kind(), described)?;
        Ok(Self { world, limits: Arc::new(limits), manifest })
    }

    /// Checks the settings by `configure`.
    fn configured(&self, name: &str, with: &PluginSettings<'_>) -> Result<Shared, SandboxError> {
        let settings = Value::Object(with.settings.clone()).to_string();
        let limits = Arc::clone(&self.limits);
        self.world.configure(name, &limits, &settings)?;
        Ok(Shared { name: name.to_owned(), settings, limits })
    }
}

impl World {
    fn of(component: &Component, instance: InstancePre<State>) -> Result<Self, SandboxError> {
        let engine = sandbox::engine()?;
        let kind = component.component_type();
        let exports: Vec<_> = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let exports = |name: &str| exports.iter().any(|export| export.starts_with(name));
        let misfit = |error: wasmtime::Error| {
            SandboxError::Module(format!("it does not fit `isr:plugin@0.1.0`: {:#}", error.root_cause()))
        };
        let interfaces = [
            "isr:plugin/judge@",
            "isr:plugin/retrospector@",
            "isr:plugin/objective@",
            "isr:plugin/objective-by-name@",
        ];
        let world = match interfaces.map(exports) {
            [true, false, false, false] => JudgePluginPre::new(instance).map(Self::Judge),
            [false, true, false, false] => RetrospectorPluginPre::new(instance).map(Self::Retrospector),
            [false, false, true, false] => {
                ObjectivePluginPre::new(instance).map(|it| Self::Objective(ObjectiveExport::ByView(it)))
            }
            [false, false, false, true] => ObjectiveByNamePluginPre::new(instance)
                .map(|it| Self::Objective(ObjectiveExport::ByName(it))),
            _ => {
                return Err(SandboxError::Module(
                    "it must export one of `isr:plugin/judge`, `isr:plugin/retrospector`, \
                     `isr:plugin/objective` and `isr:plugin/objective-by-name`"
                        .to_owned(),
                ));
            }
        };
        world.map_err(misfit)
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Judge(_) => Kind::Judge,
            Self::Retrospector(_) => Kind::Retrospector,
            Self::Objective(_) => Kind::Objective,
        }
    }

    fn describe(&self, plugin: &str, limits: &Arc<Limits>) -> Result<types::Manifest, SandboxError> {
        Call::new(plugin, limits).run_apart(async |store| call_plugin!(self, store, call_describe()))
    }

    fn configure(&self, plugin: &str, limits: &Arc<Limits>, settings: &str) -> Result<(), SandboxError> {
        let call = Call::new(plugin, limits);
        let configured =
            call.run_apart(async |store| call_plugin!(self, store, call_configure(settings)))?;
        configured.map_err(SandboxError::Settings)
    }
}

impl Plugin for WasmPlugin {
    fn manifests(&self) -> &[Manifest] {
        std::slice::from_ref(&self.manifest)
    }

    fn judge(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Judge>, Cause> {
        let shared = self.configured(name, with)?;
        match &self.world {
            World::Judge(plugin) => Ok(Arc::new(WasmJudge { shared, plugin: plugin.clone() })),
            _ => Err("it is no judge".into()),
        }
    }

    fn retrospector(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Retrospector>, Cause> {
        let shared = self.configured(name, with)?;
        match &self.world {
            World::Retrospector(plugin) => {
                Ok(Arc::new(WasmRetrospector { shared, plugin: plugin.clone() }))
            }
            _ => Err("it is no retrospector".into()),
        }
    }

    fn objective(
        &self,
        name: &str,
        with: &PluginSettings<'_>,
    ) -> Result<Arc<dyn PreferenceObjective>, Cause> {
        let shared = self.configured(name, with)?;
        match &self.world {
            World::Objective(export) => Ok(Arc::new(WasmObjective::new(shared, export.clone())?)),
            _ => Err("it is no objective".into()),
        }
    }
}

/// Most bytes of a file.
const FILE: u64 = 64 << 20;

/// Reads a file of bounded size.
fn read(path: &Path) -> Result<Vec<u8>, SandboxError> {
    let unreadable = |error: std::io::Error| SandboxError::Module(error.to_string());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE {
        return Err(SandboxError::Module(format!("it has more than {} MiB", FILE >> 20)));
    }
    Ok(bytes)
}

fn manifest(kind: Kind, described: types::Manifest) -> Result<Manifest, SandboxError> {
    let types::Manifest { name, help, schema, example } = described;
    let schema = match schema.trim() {
        "" => json!({ "type": "object", "properties": {}, "additionalProperties": false }),
        text => serde_json::from_str(text)
            .map_err(|error| SandboxError::Module(format!("its config schema is not JSON: {error}")))?,
    };
    let (version, features) = (String::new(), Vec::new());
    Ok(Manifest { kind, name, version, help, schema, example, features })
}
