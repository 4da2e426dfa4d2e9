//! A loaded Python file.

use std::sync::Arc;

use isr_core::plugin::{Manifest, Plugin, Settings};
use isr_core::registry::Kind;
use isr_core::{Cause, Judge, PreferenceObjective, Retrospector};
use isr_protocol::{Declared, Limits, Program, RemoteJudge, RemoteObjective, RemoteRetrospector, Session};
use serde_json::{Value, json};

/// Each component that is built has a process of its own.
pub(crate) struct PythonPlugin {
    pub(crate) program: Program,
    pub(crate) limits: Limits,
    pub(crate) manifests: Vec<Manifest>,
}

impl PythonPlugin {
    fn session(&self, kind: Kind, name: &str, with: &Settings<'_>) -> Result<Session, Cause> {
        let settings = Value::Object(with.settings.clone());
        Ok(Session::start(self.program.clone(), kind, name, settings, self.limits)?)
    }
}

impl Plugin for PythonPlugin {
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

/// What a plugin declares, as it is listed and described.
pub(crate) fn manifest(declared: Declared) -> Manifest {
    let Declared { kind, name, version, help, schema, example, workers: _ } = declared;
    let none = || json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let schema = schema.unwrap_or_else(none);
    Manifest { kind, name, version, help, schema, example, features: Vec::new() }
}
