//! A program that speaks the protocol, as a plugin.

use std::sync::Arc;

use isr_api::{Cause, Judge, Kind, Manifest, PreferenceObjective, Retrospector};
use isr_config::plugin::{Plugin, PluginFile, PluginSettings};
use serde_json::{Value, json};

use crate::component::{RemoteJudge, RemoteObjective, RemoteRetrospector};
use crate::limits::Limits;
use crate::message::Declared;
use crate::program::Program;
use crate::session::{Session, hello};

/// A plugin whose components each have a process of their own.
pub struct RemotePlugin {
    program: Program,
    limits: Limits,
    manifests: Vec<Manifest>,
}

impl RemotePlugin {
    /// Asks a program what it gives.
    ///
    /// # Errors
    /// What went wrong when it was started and asked.
    pub fn load(program: Program, options: &PluginFile) -> Result<Self, Cause> {
        let limits = limits(options);
        let manifests = hello(&program, &limits)?.into_iter().map(manifest).collect();
        Ok(Self { program, limits, manifests })
    }

    fn session(&self, kind: Kind, name: &str, with: &PluginSettings<'_>) -> Result<Session, Cause> {
        let settings = Value::Object(with.settings.clone());
        Ok(Session::start(self.program.clone(), kind, name, settings, self.limits)?)
    }
}

impl Plugin for RemotePlugin {
    fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    fn judge(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Judge>, Cause> {
        Ok(Arc::new(RemoteJudge::new(name, self.session(Kind::Judge, name, with)?)))
    }

    fn retrospector(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Retrospector>, Cause> {
        Ok(Arc::new(RemoteRetrospector::new(name, self.session(Kind::Retrospector, name, with)?)))
    }

    fn objective(
        &self,
        name: &str,
        with: &PluginSettings<'_>,
    ) -> Result<Arc<dyn PreferenceObjective>, Cause> {
        Ok(Arc::new(RemoteObjective::new(name, self.session(Kind::Objective, name, with)?)?))
    }
}

fn limits(options: &PluginFile) -> Limits {
    let limits = Limits { start: options.start_limit(), call: options.call_limit(), ..Limits::default() };
    Limits { restarts: options.restarts.unwrap_or(limits.restarts), ..limits }
}

fn manifest(declared: Declared) -> Manifest {
    let Declared { kind, name, version, help, schema, example, workers: _ } = declared;
    let none = || json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let schema = schema.unwrap_or_else(none);
    Manifest { kind, name, version, help, schema, example, features: Vec::new() }
}
