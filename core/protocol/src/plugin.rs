//! A program that speaks the protocol, as a [`Plugin`].

use std::sync::Arc;
use std::time::Duration;

use isr_api::messages::ComponentSpec;
use isr_api::{
    Cause, Demonstrations, Evaluator, Judge, Kind, Manifest, Observer, Policy, PreferenceObjective,
    Preferences, Retrospector, SampleSource, VideoEncoder,
};
use isr_config::plugin::{Plugin, PluginFile, PluginSettings};
use serde_json::json;

use crate::component::{
    Identity, RemoteDemonstrations, RemoteEncoder, RemoteEvaluator, RemoteJudge, RemoteObjective,
    RemoteObserver, RemotePolicy, RemoteRetrospector, RemoteRows,
};
use crate::exchange::Exchange;
use crate::limits::Limits;
use crate::message::Declared;
use crate::program::Program;
use crate::session::{Session, hello};

/// A plugin with one process for each component that is used.
pub struct RemotePlugin {
    program: Program,
    limits: Limits,
    /// Longest silence of a model, which may generate or train for long.
    model_call: Duration,
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
        let model_call = options.call_limit_or(MODEL_CALL);
        Ok(Self { program, limits, model_call, manifests })
    }

    fn session(&self, kind: Kind, name: &str, with: &PluginSettings<'_>) -> Result<Session, Cause> {
        self.session_within(self.limits, kind, name, with)
    }

    fn session_within(
        &self,
        limits: Limits,
        kind: Kind,
        name: &str,
        with: &PluginSettings<'_>,
    ) -> Result<Session, Cause> {
        let component = ComponentSpec { kind, name: name.to_owned(), settings: with.settings.clone() };
        Ok(Session::start(self.program.clone(), component, limits)?)
    }

    /// A session with an exchange folder.
    fn model_session(
        &self,
        kind: Kind,
        name: &str,
        with: &PluginSettings<'_>,
    ) -> Result<(Identity, Session, Arc<Exchange>), Cause> {
        let exchange = Exchange::create()
            .map_err(|error| format!("a folder for videos and features cannot be created: {error}"))?;
        let exchange = Arc::new(exchange);
        let component = ComponentSpec { kind, name: name.to_owned(), settings: with.settings.clone() };
        let limits = Limits { call: self.model_call, ..self.limits };
        let shared = Some(Arc::clone(&exchange));
        let session = Session::start_with(self.program.clone(), component, limits, shared)?;
        let is_it = |it: &&Manifest| it.kind == kind && it.name == name;
        let version = self.manifests.iter().find(is_it).map(|it| it.version.clone()).unwrap_or_default();
        Ok((Identity { kind, name: name.to_owned(), version }, session, exchange))
    }

    /// Whether a component declares this capability.
    fn has(&self, kind: Kind, name: &str, feature: &str) -> bool {
        let is_it = |it: &&Manifest| it.kind == kind && it.name == name;
        self.manifests.iter().find(is_it).is_some_and(|it| it.features.iter().any(|it| it == feature))
    }
}

/// The kinds of components that a process can be.
pub const KINDS: [Kind; 10] = [
    Kind::Data,
    Kind::Encoder,
    Kind::Policy,
    Kind::Retrospector,
    Kind::Judge,
    Kind::Objective,
    Kind::Evaluator,
    Kind::Demonstrations,
    Kind::Preferences,
    Kind::Observer,
];

/// Default longest silence of a policy or an encoder: a step, or many long answers, take their time.
const MODEL_CALL: Duration = Duration::from_secs(600);

/// The feature of an evaluator that asks a server or a model.
const COSTLY: &str = "costly";

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

    fn encoder(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn VideoEncoder>, Cause> {
        let (identity, session, exchange) = self.model_session(Kind::Encoder, name, with)?;
        Ok(Arc::new(RemoteEncoder::new(&identity, session, exchange)?))
    }

    fn policy(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Policy>, Cause> {
        let (identity, session, exchange) = self.model_session(Kind::Policy, name, with)?;
        Ok(Arc::new(RemotePolicy::new(identity, session, exchange)?))
    }

    fn data(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn SampleSource>, Cause> {
        Ok(Arc::new(RemoteRows::new(name, self.session(Kind::Data, name, with)?)))
    }

    fn evaluator(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Evaluator>, Cause> {
        let is_costly = self.has(Kind::Evaluator, name, COSTLY);
        let session = self.session(Kind::Evaluator, name, with)?;
        Ok(Arc::new(RemoteEvaluator::new(name, session, is_costly)))
    }

    fn demonstrations(
        &self,
        name: &str,
        with: &PluginSettings<'_>,
    ) -> Result<Arc<dyn Demonstrations>, Cause> {
        let session = self.session(Kind::Demonstrations, name, with)?;
        Ok(Arc::new(RemoteDemonstrations::new(name, session)))
    }

    fn preferences(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Preferences>, Cause> {
        Ok(Arc::new(RemoteRows::new(name, self.session(Kind::Preferences, name, with)?)))
    }

    fn observer(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Observer>, Cause> {
        // A new process would know nothing of earlier events.
        let limits = Limits { restarts: 0, ..self.limits };
        let session = self.session_within(limits, Kind::Observer, name, with)?;
        Ok(Arc::new(RemoteObserver::new(name, session)))
    }
}

fn limits(options: &PluginFile) -> Limits {
    let limits = Limits { start: options.start_limit(), call: options.call_limit(), ..Limits::default() };
    Limits { restarts: options.restarts.unwrap_or(limits.restarts), ..limits }
}

fn manifest(declared: Declared) -> Manifest {
    let Declared { kind, name, version, help, schema, example, workers: _, features } = declared;
    let none = || json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let schema = schema.unwrap_or_else(none);
    Manifest { kind, name, version, help, schema, example, features }
}
