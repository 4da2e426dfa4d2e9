//! The hosting process: loads a library and answers calls on it.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use isr_api::messages::{ComponentSpec, RequirementsMessage, ValueMessage};
use isr_api::{
    BuildContext, Cause, ComponentError, Fingerprint, FrozenPolicy, Judge, Kind, Manifest,
    PreferenceObjective, Retrospector,
};
use isr_config::plugin::{Plugin, PluginFile, PluginLoader, PluginSettings};
use isr_protocol::{Call, Declared, FromPlugin, ToPlugin, VERSION};
use serde_json::Value;
use tokio::runtime::{Builder, Handle};
use tokio::task::AbortHandle;

use super::case;
use super::pipe::{Pipe, PipePolicy};
use crate::NativeLoader;

/// The kinds that the protocol has.
const KINDS: [Kind; 3] = [Kind::Judge, Kind::Retrospector, Kind::Objective];

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
}

struct Server {
    plugin: Arc<dyn Plugin>,
    pipe: Arc<Pipe>,
    component: OnceLock<Component>,
}

impl Server {
    fn take(self: &Arc<Self>, message: ToPlugin, runtime: &Handle, tasks: &mut HashMap<u64, AbortHandle>) {
        match message {
            ToPlugin::Hello { .. } => self.pipe.write(&self.hello()),
            ToPlugin::Answer { id, answer } => self.pipe.answered(id, answer),
            ToPlugin::Calls { calls } => {
                tasks.retain(|_, task| !task.is_finished());
                for call in calls {
                    let (server, id) = (Arc::clone(self), call.id);
                    let task = runtime.spawn(async move { server.answer(call).await });
                    tasks.insert(id, task.abort_handle());
                }
            }
            // The call's future is dropped, and so the library learns of it; an answer is owed all the same.
            ToPlugin::Cancel { id } => {
                if let Some(task) = tasks.remove(&id).filter(|task| !task.is_finished()) {
                    task.abort();
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

    async fn answer(&self, call: Call) {
        let id = call.id;
        self.pipe.write(&match self.value(call).await {
            Ok(value) => FromPlugin::Result { id, value },
            Err(error) => failure(id, &error),
        });
    }

    async fn value(&self, call: Call) -> Result<Value, ComponentError> {
        let Call { id, method, params } = call;
        match (method.as_str(), self.component.get()) {
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
            _ => Err(ComponentError::failed(format!("there is no call `{method}` of this component"))),
        }
    }

    fn policy(&self, call: u64, fingerprint: Fingerprint) -> FrozenPolicy {
        FrozenPolicy::new(Arc::new(PipePolicy { pipe: Arc::clone(&self.pipe), call, fingerprint }))
    }

    fn configure(&self, params: Value) -> Result<Value, ComponentError> {
        let ComponentSpec { kind, name, settings } = case::read(params)?;
        self.plugin.validate(kind, &name, &settings).map_err(ComponentError::failed)?;
        let with = PluginSettings { settings: &settings, cx: &BuildContext::default() };
        let built = match kind {
            Kind::Judge => self.plugin.judge(&name, &with).map(Component::Judge),
            Kind::Retrospector => self.plugin.retrospector(&name, &with).map(Component::Retrospector),
            Kind::Objective => self.plugin.objective(&name, &with).map(Component::Objective),
            other => Err(format!("a {} cannot be isolated", other.section()).into()),
        };
        match self.component.set(built.map_err(ComponentError::failed)?) {
            Ok(()) => Ok(Value::Null),
            Err(_) => Err(ComponentError::failed("it is configured already")),
        }
    }
}

fn failure(id: u64, error: &ComponentError) -> FromPlugin {
    let code = match error {
        ComponentError::BadInput(_) => "bad_input",
        _ => "failed",
    };
    FromPlugin::Error { id, code: code.to_owned(), message: error.to_string() }
}
