//! A program that speaks the protocol, as a [`Plugin`].

use std::sync::Arc;

use isr_api::messages::ComponentSpec;
use isr_api::{Cause, Judge, Kind, Manifest, PreferenceObjective, Retrospector};
use isr_config::plugin::{Plugin, PluginFile, PluginSettings};
use serde_json::json;

use crate::component::{RemoteJudge, RemoteObjective, RemoteRetrospector};
use crate::limits::Limits;
use crate::message::Declared;
use crate::program::Program;
use crate::session::{Session, hello};

/// A plugin with one process for each component that is used.
pub struct RemotePlugin {
    program: Program,
    limits: Limits,
    manifests: Vec<Manifest>,
}

impl RemotePlugin {
    /// Starts a program to ask for its components.
    ///
    /// # Errors
    /// It does not start, or does not greet in time and in a known version of the protocol.
    pub fn load(program: Program, options: &PluginFile) -> Result<Self, Cause> {
        let limits = limits(options);
        let manifests = hello(&program, &limits)?.into_iter().map(manifest).collect();
        Ok(Self { program, limits, manifests })
    }

    fn session(&self, kind: Kind, name: &str, with: &PluginSettings<'_>) -> Result<Session, Cause> {
        let component = ComponentSpec { kind, name: name.to_owned(), settings: with.settings.clone() };
        Ok(Session::start(self.program.clone(), component, self.limits)?)
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
