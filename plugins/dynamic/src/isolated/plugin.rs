//! A library in a process of its own, as a plugin.

use std::path::Path;
use std::sync::Arc;

use isr_core::plugin::{Manifest, Plugin, PluginFile, Settings};
use isr_core::registry::Kind;
use isr_core::{Cause, Judge, PreferenceObjective, Retrospector};
use isr_protocol::{
    Declared, Limits, Program, RemoteJudge, RemoteObjective, RemoteRetrospector, Session, hello,
};
use serde_json::{Value, json};

use super::program::{limits, program};

/// Each component that is built has a process of its own.
pub(crate) struct IsolatedPlugin {
    program: Program,
    limits: Limits,
    manifests: Vec<Manifest>,
}

impl IsolatedPlugin {
    pub(crate) fn load(path: &Path, options: &PluginFile) -> Result<Self, Cause> {
        let (program, limits) = (program(path, options)?, limits(options));
        let manifests = hello(&program, &limits)?.into_iter().map(manifest).collect();
        Ok(Self { program, limits, manifests })
    }

    fn session(&self, kind: Kind, name: &str, with: &Settings<'_>) -> Result<Session, Cause> {
        let settings = Value::Object(with.settings.clone());
        Ok(Session::start(self.program.clone(), kind, name, settings, self.limits)?)
    }
}

impl Plugin for IsolatedPlugin {
    fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    fn judge(&self, name: &str, with: &Settings<'_>) -> Result<Arc<dyn Judge>, Cause> {
        Ok(Arc::new(RemoteJudge::new(name, self.session(Kind::Judge, name, with)?)))
    }

    fn retrospector(&self, name: &str, with: &Settings<'_>) -> Result<Arc<dyn Retrospector>, Cause> {
        Ok(Arc::new(RemoteRetrospector::new(name, self.session(Kind::Retrospector, name, with)?)))
    }

    fn objective(&self, name: &str, with: &Settings<'_>) -> Result<Arc<dyn PreferenceObjective>, Cause> {
        Ok(Arc::new(RemoteObjective::new(name, self.session(Kind::Objective, name, with)?)?))
    }
}

fn manifest(declared: Declared) -> Manifest {
    let Declared { kind, name, version, help, schema, example, workers: _ } = declared;
    let none = || json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let schema = schema.unwrap_or_else(none);
    Manifest { kind, name, version, help, schema, example, features: Vec::new() }
}
