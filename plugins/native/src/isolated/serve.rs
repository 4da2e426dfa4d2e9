//! The hosting process: loads a library and answers calls on it.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use isr_api::messages::{ComponentSpec, RequirementsMessage, ValueMessage};
use isr_api::{
    BuildContext, Cause, ComponentError, Fingerprint, FrozenPolicy, Judge, Kind, Manifest,
    PreferenceObjective, Retrospector,
};
use isr_config::plugin::{Plugin, PluginError, PluginFile, PluginLoader, PluginSettings};
use isr_protocol::{Call, Configure, Declared, FromPlugin, SharedFolder, ToPlugin, VERSION};
use serde_json::Value;
use tokio::runtime::{Builder, Handle};
use tokio::task::AbortHandle;

use super::case;
use super::models::{HostedEncoder, HostedPolicy};
use super::pipe::{Pipe, PipePolicy};
use crate::NativeLoader;

/// The kinds that a library can have.
const KINDS: [Kind; 5] = [Kind::Judge, Kind::Retrospector, Kind::Objective, Kind::Encoder, Kind::Policy];

/// Methods that are worked on to their end after a cancellation too, since they change the component or a checkpoint.
const WHOLE: [&str; 3] = ["train_step", "save", "load"];

/// Loads a library and serves it on standard input and output, until the input ends. What the library
/// prints goes to stderr.
///
/// # Errors
/// The library cannot be loaded, or the process lacks what it needs.
pub fn serve(path: &Path, memory_mb: Option<u64>) -> Result<(), Cause> {
    // The way out is kept, and standard output becomes standard error, before any code of the library runs.
    let out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    if let Some(mb) = memory_mb {
        let limit = rustix::process::Rlimit { current: Some(mb << 20), maximum: Some(mb << 20) };
        rustix::process::setrlimit(rustix::process::Resource::As, limit)?;
    }
    let path = std::path::absolute(path)?;
    let plugin = NativeLoader.load(&path, &PluginFile::new(&path))?;
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let server = Arc::new(Server { plugin, pipe: Arc::new(Pipe::new(out)), component: OnceLock::new() });
    let mut tasks = HashMap::new();
    for line in std::io::stdin().lock().lines() {
        server.take(serde_json::from_str(&line?)?, runtime.handle(), &mut tasks);
    }
    // Calls may be anywhere in the library: nobody waits for them.
    runtime.shutdown_background();
    end_group();
    Ok(())
}

/// Ends this process and what the library has started: isr made it the leader of a process group of its own.
fn end_group() {
    use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group};
    if getpgrp() == getpid() {
        // An error leaves the process to its caller, which ends it.
        let _ = kill_current_process_group(Signal::KILL);
    }
}

enum Component {
    Judge(Arc<dyn Judge>),
    Retrospector(Arc<dyn Retrospector>),
    Objective(Arc<dyn PreferenceObjective>),
    Encoder(HostedEncoder),
    Policy(HostedPolicy),
}

/// A call that is worked on.
struct Task {
    handle: AbortHandle,
    is_whole: bool,
    answer: Owed,
}

/// The one answer that a call is owed.
#[derive(Clone, Default)]
struct Owed(Arc<AtomicBool>);

impl Owed {
    /// Takes the duty to answer; false where it was taken.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

struct Server {
    plugin: Arc<dyn Plugin>,
    pipe: Arc<Pipe>,
    component: OnceLock<Component>,
}

impl Server {
    fn take(self: &Arc<Self>, message: ToPlugin, runtime: &Handle, tasks: &mut HashMap<u64, Task>) {
        match message {
            ToPlugin::Hello { .. } => self.pipe.write(&self.hello()),
            ToPlugin::Answer { id, answer } => self.pipe.answered(id, answer),
            ToPlugin::Calls { calls } => {
                tasks.retain(|_, task| !task.handle.is_finished());
                for call in calls {
                    let (id, is_whole) = (call.id, WHOLE.contains(&call.method.as_str()));
                    let (server, answer) = (Arc::clone(self), Owed::default());
                    let owed = answer.clone();
                    let task = runtime.spawn(async move { server.answer(call, &owed).await });
                    tasks.insert(id, Task { handle: task.abort_handle(), is_whole, answer });
                }
            }
            // The call's future is dropped, and so the library learns of it; an answer is owed all the same.
            ToPlugin::Cancel { id } => {
                if let Some(task) = tasks.remove(&id).filter(|task| !task.is_whole && task.answer.take()) {
                    task.handle.abort();
                    self.pipe.write(&failure(id, &ComponentError::bad_input("cancelled")));
                }
            }
        }
    }

    fn hello(&self) -> FromPlugin {
        let manifests = self.plugin.manifests().iter().filter(|it| KINDS.contains(&it.kind));
        let declared = |it: &Manifest| Declared {
            kind: it.kind,
            name: it.name.clone(),
            version: it.version.clone(),
            help: it.help.clone(),
            schema: Some(it.schema.clone()),
            example: it.example.clone(),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            features: Vec::new(),
        };
        let sdk = format!("isr-plugin {}", isr_plugin::VERSION);
        FromPlugin::Hello { protocol: VERSION, sdk, components: manifests.map(declared).collect() }
    }

    async fn answer(&self, call: Call, owed: &Owed) {
        let id = call.id;
        let message = match self.value(call).await {
            Ok(value) => FromPlugin::Result { id, value },
            Err(error) => failure(id, &error),
        };
        if owed.take() {
            self.pipe.write(&message);
        }
    }

    async fn value(&self, call: Call) -> Result<Value, ComponentError> {
        let Call { id, method, params } = call;
        let answer = match self.component.get() {
            Some(Component::Encoder(encoder)) => encoder.call(&method, params).await,
            Some(Component::Policy(policy)) => policy.call(&self.pipe, id, &method, params).await,
            _ => return self.evaluation(id, &method, params).await,
        };
        answer.unwrap_or_else(|| Err(unknown(&method)))
    }

    /// Answers `configure`, and calls of judges, retrospectors and objectives.
    async fn evaluation(&self, id: u64, method: &str, params: Value) -> Result<Value, ComponentError> {
        match (method, self.component.get()) {
            ("configure", _) => self.configure(params),
            ("judge", Some(Component::Judge(judge))) => {
                let case = case::judge_case(&self.pipe, id, params).await?;
                let verdict = judge.judge(&case, &self.policy(id, case.first.policy.clone())).await?;
                let votes = verdict.votes.iter().map(|vote| vote.p_first);
                match votes.chain([verdict.p_first]).find(|p| !p.is_finite()) {
                    Some(p) => {
                        let text = format!("its probability is {p}, not in [0, 1]");
                        Err(ComponentError::bad_input(text))
                    }
                    None => case::write(verdict),
                }
            }
            ("describe", Some(Component::Retrospector(retrospector))) => {
                let case = case::retrospection_case(&self.pipe, id, params).await?;
                let policy = self.policy(id, Fingerprint::of("unknown"));
                Ok(retrospector.describe(&case, &policy).await?.into())
            }
            ("requirements", Some(Component::Objective(objective))) => {
                case::write(RequirementsMessage::from(&objective.requirements()))
            }
            ("evaluate", Some(Component::Objective(objective))) => {
                let value = objective.evaluate(&case::batch(params)?)?;
                case::write(ValueMessage::inline(&value).map_err(ComponentError::failed)?)
            }
            _ => Err(unknown(method)),
        }
    }

    fn policy(&self, call: u64, fingerprint: Fingerprint) -> FrozenPolicy {
        FrozenPolicy::new(Arc::new(PipePolicy { pipe: Arc::clone(&self.pipe), call, fingerprint }))
    }

    fn configure(&self, params: Value) -> Result<Value, ComponentError> {
        let Configure { component, exchange } = case::read(params)?;
        let ComponentSpec { kind, name, settings } = component;
        let folder = || {
            let path =
                exchange.ok_or_else(|| format!("`configure` of a {} lacks `exchange`", kind.section()));
            path.map(SharedFolder::new).map_err(Cause::from)
        };
        self.plugin.validate(kind, &name, &settings).map_err(ComponentError::failed)?;
        let with = PluginSettings { settings: &settings, cx: &BuildContext::default() };
        let built = match kind {
            Kind::Judge => self.plugin.judge(&name, &with).map(Component::Judge),
            Kind::Retrospector => self.plugin.retrospector(&name, &with).map(Component::Retrospector),
            Kind::Objective => self.plugin.objective(&name, &with).map(Component::Objective),
            Kind::Encoder => folder().and_then(|folder| {
                let encoder = self.plugin.encoder(&name, &with)?;
                Ok(Component::Encoder(HostedEncoder { encoder, folder }))
            }),
            Kind::Policy => folder().and_then(|folder| {
                let policy = self.plugin.policy(&name, &with)?;
                Ok(Component::Policy(HostedPolicy { policy, folder }))
            }),
            other => Err(format!("a {} cannot be isolated", other.section()).into()),
        };
        match self.component.set(built.map_err(ComponentError::failed)?) {
            Ok(()) => Ok(Value::Null),
            Err(_) => Err(ComponentError::failed("it is configured already")),
        }
    }
}

fn unknown(method: &str) -> ComponentError {
    ComponentError::failed(format!("there is no call `{method}` of this component"))
}

/// The message of an error; isr names plugin and call.
fn failure(id: u64, error: &ComponentError) -> FromPlugin {
    let (code, cause) = match error {
        ComponentError::BadInput(cause) => ("bad_input", Some(cause)),
        ComponentError::Failed(cause) => ("failed", Some(cause)),
        _ => ("failed", None),
    };
    let named = cause.and_then(|cause| cause.downcast_ref::<PluginError>());
    let message = named.map_or_else(|| error.to_string(), |named| named.message.clone());
    FromPlugin::Error { id, code: code.to_owned(), message }
}
