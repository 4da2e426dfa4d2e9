//! A library as a [`Plugin`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use isr_api::{Cause, Judge, Kind, Manifest, Policy, PreferenceObjective, Retrospector, VideoEncoder};
use isr_config::plugin::{Plugin, PluginFile, PluginSettings};
use isr_plugin::host::Library;
use serde_json::{Map, Value};

use crate::answers::Answers;
use crate::component::{NativeEncoder, NativeJudge, NativeObjective, NativePolicy, NativeRetrospector};
use crate::runner::Runner;
use crate::timeout::with_timeout;

/// An open library, with the time limits of its calls.
pub(crate) struct NativePlugin {
    library: Arc<Library>,
    path: PathBuf,
    start: Duration,
    call: Duration,
}

impl NativePlugin {
    pub(crate) fn new(library: Library, path: &Path, options: &PluginFile) -> Self {
        let (start, call) = (options.start_limit(), options.call_limit());
        Self { library: Arc::new(library), path: path.to_owned(), start, call }
    }

    /// Builds a component within `start_s`.
    fn build(&self, kind: Kind, name: &str, with: &PluginSettings<'_>) -> Result<Runner, Cause> {
        let (library, owned) = (Arc::clone(&self.library), name.to_owned());
        let settings = Value::from(with.settings.clone()).to_string();
        let host = Answers::nobody(name);
        let built = with_timeout(self.start, "construct", move || {
            library.construct(kind.section(), &owned, &settings, host)
        })?;
        Ok(Runner::new(name, built.map_err(cause)?, self.call))
    }
}

/// An error of the library as a cause; a panic says that it was one.
fn cause(error: isr_plugin::wire::RemoteError) -> Cause {
    match error.code.as_str() {
        "panicked" => format!("panicked: {error}").into(),
        _ => error.into(),
    }
}

impl Plugin for NativePlugin {
    fn manifests(&self) -> &[Manifest] {
        self.library.manifests()
    }

    fn validate(&self, kind: Kind, name: &str, settings: &Map<String, Value>) -> Result<(), String> {
        let (library, owned) = (Arc::clone(&self.library), name.to_owned());
        let settings = Value::from(settings.clone()).to_string();
        let checked = with_timeout(self.start, "validate", move || {
            library.validate(kind.section(), &owned, &settings)
        });
        let file = self.path.display();
        match checked {
            Ok(Err(error)) if error.code == "panicked" => {
                Err(format!("plugin `{name}`, validate: panicked: {error} ({file})"))
            }
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(cause) => Err(format!("plugin `{name}`, validate: {cause} ({file})")),
        }
    }

    fn judge(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Judge>, Cause> {
        Ok(Arc::new(NativeJudge(self.build(Kind::Judge, name, with)?)))
    }

    fn retrospector(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Retrospector>, Cause> {
        Ok(Arc::new(NativeRetrospector(self.build(Kind::Retrospector, name, with)?)))
    }

    fn objective(
        &self,
        name: &str,
        with: &PluginSettings<'_>,
    ) -> Result<Arc<dyn PreferenceObjective>, Cause> {
        Ok(Arc::new(NativeObjective::new(self.build(Kind::Objective, name, with)?)?))
    }

    fn encoder(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn VideoEncoder>, Cause> {
        Ok(Arc::new(NativeEncoder::new(self.build(Kind::Encoder, name, with)?)?))
    }

    fn policy(&self, name: &str, with: &PluginSettings<'_>) -> Result<Arc<dyn Policy>, Cause> {
        Ok(Arc::new(NativePolicy(self.build(Kind::Policy, name, with)?)))
    }
}
