//! The host's side of the binary interface: opening libraries, building components and calling them.

use std::path::Path;

use abi_stable::library::{LibraryError, lib_header_from_path};
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RResult, RSlice, RStr};
use isr_api::{Manifest, ObjectiveBatch, ObjectiveValue};

use crate::error::RemoteError;
use crate::interface::{
    Host, Host_TO, HostBox, InstanceBox, ModuleRef, RawError, RawMessage, RawReply, RawView,
};
use crate::message::Message;
use crate::messages::Described;

/// Optional capabilities of this host, as a JSON list of names. `together`, since 0.1.1, is a method of
/// [`HostSide::ask`] that answers a batch of requests.
const FEATURES: &str = "[\"together\"]";

/// The host's side of one call.
pub trait HostSide: Send + Sync + 'static {
    /// Whether log messages of `level` (1 error to 5 trace) are enabled.
    fn wants(&self, level: u8) -> bool;
    /// Logs a message of the plugin.
    fn log(&self, level: u8, target: &str, message: &str);
    /// Whether the call was cancelled.
    fn cancelled(&self) -> bool;
    /// Answers a request of the plugin.
    fn ask(&self, method: &str, request: &Message) -> Result<Message, RemoteError>;
}

struct Answers<H>(H);

impl<H: HostSide> Host for Answers<H> {
    fn wants(&self, level: u8) -> bool {
        self.0.wants(level)
    }
    fn log(&self, level: u8, target: RStr<'_>, message: RStr<'_>) {
        self.0.log(level, &target, &message);
    }
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
    fn ask(&self, method: RStr<'_>, request: RawMessage<'_>) -> RResult<RawReply, RawError> {
        // A panic of the program must not end in the plugin's frames.
        let reply = crate::guard::guarded(|| self.0.ask(&method, &Message::from(request)));
        reply.map(Message::into_raw).map_err(RawError::from).into()
    }
}

fn boxed(host: impl HostSide) -> HostBox {
    Host_TO::from_value(Answers(host), TD_Opaque)
}

/// An open library. It stays in memory until the process ends.
pub struct Library {
    module: ModuleRef,
    manifests: Vec<Manifest>,
}

impl Library {
    /// Opens the library of an absolute path.
    ///
    /// # Errors
    /// Why it is not a compatible plugin, and what to do, in one sentence.
    pub fn open(path: &Path) -> Result<Self, String> {
        let header = lib_header_from_path(path).map_err(|error| summary(&error))?;
        let version = header.version_strings();
        check_version(version.version.as_str())?;
        let module = header.init_root_module::<ModuleRef>().map_err(|error| summary(&error))?;
        let text = module.describe()(FEATURES.into()).into_result();
        let text =
            text.map_err(|error| format!("it cannot describe itself: {}", RemoteError::from(error)))?;
        let described: Described = serde_json::from_str(&text)
            .map_err(|error| format!("its description cannot be read: {error}"))?;
        Ok(Self { module, manifests: described.components })
    }

    /// Manifests of its components.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// Validates settings, a JSON object.
    ///
    /// # Errors
    /// The component's own message, a panic included.
    pub fn validate(&self, kind: &str, name: &str, settings: &str) -> Result<(), RemoteError> {
        let checked = self.module.validate()(kind.into(), name.into(), settings.into());
        checked.into_result().map_err(RemoteError::from)
    }

    /// Builds a component. `host` serves the log of threads that outlive a call.
    ///
    /// # Errors
    /// The component's own error, a panic included.
    pub fn construct(
        &self,
        kind: &str,
        name: &str,
        settings: &str,
        host: impl HostSide,
    ) -> Result<Instance, RemoteError> {
        let built = self.module.construct()(kind.into(), name.into(), settings.into(), boxed(host));
        built.into_result().map(Instance).map_err(RemoteError::from)
    }
}

/// A built component of a library.
pub struct Instance(InstanceBox);

impl Instance {
    /// Makes a blocking call.
    ///
    /// # Errors
    /// The component's own error, a panic included.
    pub fn call(
        &self,
        method: &str,
        request: &Message,
        host: impl HostSide,
    ) -> Result<Message, RemoteError> {
        let reply = request.lend(|raw| self.0.call(method.into(), raw, boxed(host)));
        reply.into_result().map(Message::from).map_err(RemoteError::from)
    }

    /// Evaluates an objective; its numbers cross as slices, not as JSON.
    ///
    /// # Errors
    /// The component's own error, a panic included.
    pub fn evaluate(&self, batch: &ObjectiveBatch) -> Result<ObjectiveValue, RemoteError> {
        let lengths = batch.views.iter().map(|view| view.lengths.iter().map(|&it| it as u64).collect());
        let lengths: Vec<Vec<u64>> = lengths.collect();
        let views = batch.views.iter().zip(&lengths).map(|(view, lengths)| RawView {
            view: view.view.name().into(),
            policy: RSlice::from(&view.policy[..]),
            reference: RSlice::from(&view.reference[..]),
            lengths: RSlice::from(&lengths[..]),
        });
        let views: Vec<RawView<'_>> = views.collect();
        let value = self.0.evaluate(RSlice::from(&views[..])).into_result().map_err(RemoteError::from)?;
        let gradients = value.gradients.into_iter().map(|gradient| gradient.into_vec()).collect();
        let metrics = value.metrics.into_iter().map(|it| (it.0.into_string(), it.1)).collect();
        Ok(ObjectiveValue { loss: value.loss, gradients, metrics })
    }
}

/// Checks that the first non-zero number of a version is ours: then the binary interface is the same.
fn check_version(found: &str) -> Result<(), String> {
    let part = |version: &str| {
        let mut numbers = version.split('.').map(|number| number.parse::<u64>().ok());
        Some([numbers.next()??, numbers.next()??])
    };
    let ours = part(crate::VERSION);
    match part(found) {
        Some([0, minor]) if ours == Some([0, minor]) => Ok(()),
        Some([major, _]) if major > 0 && ours.is_some_and(|ours| ours[0] == major) => Ok(()),
        _ => Err(format!(
            "it was built with version {found} of isr-plugin, and this program takes {}; build it again \
             with that version",
            crate::VERSION
        )),
    }
}

/// A short form of an error that may run to hundreds of lines.
fn summary(error: &LibraryError) -> String {
    match error {
        LibraryError::OpenError { err, .. } => {
            format!("it is no library that this system can open ({})", one_line(&err.to_string()))
        }
        LibraryError::GetSymbolError { .. } => {
            "it is a library, but no plugin: it exports nothing by isr_plugin::export!".to_owned()
        }
        LibraryError::InvalidAbiHeader { .. } => {
            "it was built with another version of abi_stable; build it again with this version of \
             isr-plugin"
                .to_owned()
        }
        LibraryError::AbiInstability(text) => {
            let differs = difference(&text.to_string());
            format!(
                "its interface is not that of isr-plugin {}{differs}; build it again with that version",
                crate::VERSION
            )
        }
        other => one_line(&other.to_string()),
    }
}

/// The first difference in a report on type layouts.
fn difference(report: &str) -> String {
    let after = |label: &str| {
        let text = report.split_once(label)?.1;
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().take(80).collect::<String>())
    };
    match (after("Error:"), after("Expected:"), after("Found:")) {
        (Some(error), Some(expected), Some(found)) => {
            format!(" ({error}: expected {expected}, found {found})")
        }
        (Some(error), ..) => format!(" ({error})"),
        _ => String::new(),
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(200).collect()
}
