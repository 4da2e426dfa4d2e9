//! A loaded WebAssembly file.

use std::path::Path;
use std::sync::Arc;

use isr_api::{Cause, Judge, Kind, Manifest, PreferenceObjective, Retrospector};
use isr_config::plugin::{Plugin, PluginSettings};
use serde_json::{Value, json};
use wasmtime::component::{Component, InstancePre};

use crate::bindings::judge::JudgePluginPre;
use crate::bindings::objective::ObjectivePluginPre;
use crate::bindings::retrospector::RetrospectorPluginPre;
use crate::bindings::types;
use crate::component::{Shared, WasmJudge, WasmObjective, WasmRetrospector};
use crate::error::Fault;
use crate::module;
use crate::sandbox::{self, Call, Limits, State};

/// What a file exports, ready to be instantiated.
enum World {
    Judge(JudgePluginPre<State>),
    Retrospector(RetrospectorPluginPre<State>),
    Objective(ObjectivePluginPre<State>),
}

/// A file's one component.
pub(crate) struct WasmPlugin {
    world: World,
    limits: Arc<Limits>,
    manifest: Manifest,
}

impl WasmPlugin {
    pub(crate) fn load(path: &Path, limits: Limits) -> Result<Self, Fault> {
        let bytes = std::fs::read(path).map_err(|error| Fault::Module(error.to_string()))?;
        let component = sandbox::compile(&module::component(bytes)?)?;
        let import = |error: wasmtime::Error| Fault::Import(format!("{error:#}"));
        let instance = sandbox::linker()?.instantiate_pre(&component).map_err(import)?;
        let world = World::of(&component, instance)?;
        let starting = Limits { call: limits.start, ..limits.clone() };
        let described = world.describe(&path.display().to_string(), &Arc::new(starting))?;
        let manifest = manifest(world.kind(), described)?;
        Ok(Self { world, limits: Arc::new(limits), manifest })
    }

    /// What a component of this file shares, once it has taken the settings.
    fn configured(&self, name: &str, with: &PluginSettings<'_>) -> Result<Shared, Fault> {
        let settings = Value::Object(with.settings.clone()).to_string();
        let limits = Arc::clone(&self.limits);
        self.world.configure(name, &limits, &settings)?;
        Ok(Shared { name: name.to_owned(), settings, limits })
    }
}

impl World {
    fn of(component: &Component, instance: InstancePre<State>) -> Result<Self, Fault> {
        let engine = sandbox::engine()?;
        let kind = component.component_type();
        let exports: Vec<_> = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
        let exports = |name: &str| exports.iter().any(|export| export.starts_with(name));
        let misfit = |error: wasmtime::Error| {
            Fault::Module(format!("it does not fit `isr:plugin@0.1.0`: {:#}", error.root_cause()))
        };
        let [judge, retrospector, objective] =
            ["isr:plugin/judge@", "isr:plugin/retrospector@", "isr:plugin/objective@"].map(exports);
        match [judge, retrospector, objective] {
            [true, false, false] => JudgePluginPre::new(instance).map(Self::Judge).map_err(misfit),
            [false, true, false] => {
                RetrospectorPluginPre::new(instance).map(Self::Retrospector).map_err(misfit)
            }
            [false, false, true] => ObjectivePluginPre::new(instance).map(Self::Objective).map_err(misfit),
            _ => Err(Fault::Module(
                "it must export one of `isr:plugin/judge`, `isr:plugin/retrospector` and \
                 `isr:plugin/objective`"
                    .to_owned(),
            )),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Judge(_) => Kind::Judge,
            Self::Retrospector(_) => Kind::Retrospector,
            Self::Objective(_) => Kind::Objective,
        }
    }

    fn describe(&self, plugin: &str, limits: &Arc<Limits>) -> Result<types::Manifest, Fault> {
        Call::new(plugin, limits).run(|store| match self {
            Self::Judge(it) => it.instantiate(&mut *store)?.isr_plugin_plugin().call_describe(store),
            Self::Retrospector(it) => it.instantiate(&mut *store)?.isr_plugin_plugin().call_describe(store),
            Self::Objective(it) => it.instantiate(&mut *store)?.isr_plugin_plugin().call_describe(store),
        })
    }

    fn configure(&self, plugin: &str, limits: &Arc<Limits>, settings: &str) -> Result<(), Fault> {
        let taken = Call::new(plugin, limits).run(|store| match self {
            Self::Judge(it) => {
                it.instantiate(&mut *store)?.isr_plugin_plugin().call_configure(store, settings)
            }
            Self::Retrospector(it) => {
                it.instantiate(&mut *store)?.isr_plugin_plugin().call_configure(store, settings)
            }
            Self::Objective(it) => {
                it.instantiate(&mut *store)?.isr_plugin_plugin().call_configure(store, settings)
            }
        })?;
        taken.map_err(Fault::Settings)
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
            World::Objective(plugin) => Ok(Arc::new(WasmObjective::new(shared, plugin.clone())?)),
            _ => Err("it is no objective".into()),
        }
    }
}

fn manifest(kind: Kind, described: types::Manifest) -> Result<Manifest, Fault> {
    let types::Manifest { name, help, schema, example } = described;
    let schema = match schema.trim() {
        "" => json!({ "type": "object", "properties": {}, "additionalProperties": false }),
        text => serde_json::from_str(text)
            .map_err(|error| Fault::Module(format!("its config schema is not JSON: {error}")))?,
    };
    let (version, features) = (String::new(), Vec::new());
    Ok(Manifest { kind, name, version, help, schema, example, features })
}
