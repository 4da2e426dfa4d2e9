//! `isr plugins check`: the contract suites on a plugin's components.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use isr_api::{BuildContext, Cause, Evaluator, Kind, Manifest};
use isr_config::plugin::{self, LoadedPlugin, PluginFile, Plugins};
use isr_config::registry::{
    DataConfig, DemonstrationsConfig, EncoderConfig, EvaluatorConfig, JudgeConfig, ObjectiveConfig,
    ObserverConfig, PolicyConfig, PreferencesConfig, RetrospectorConfig,
};
use isr_config::{Loader, Validate};
use isr_testing::{Failure, JudgeRules, ObjectiveRules, fixtures};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::output::print_line;
use super::session::Session;

/// Check that a plugin's components keep the contracts of their kinds
///
/// Each is built with the settings of its example, and asked what a run would ask, and worse. What fails is
/// printed, a line a rule.
#[derive(Args)]
pub(super) struct CheckArgs {
    /// The plugin file, or its name in a folder of ISR_PLUGIN_PATH
    file: PathBuf,
    /// FILE is the name of a Python module that is installed for ISR_PYTHON, in place of a file
    #[arg(long)]
    module: bool,
    /// Only the component of this name
    #[arg(long)]
    name: Option<String>,
    /// Change a setting of the example: `-s words=3`; may be given again
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Longest time of a call in seconds [default: 60]
    #[arg(long, value_name = "SECONDS")]
    call_s: Option<f64>,
    /// Of objectives: the loss has a factor that counts as a constant, so gradients are not those of finite
    /// differences
    #[arg(long)]
    stops_gradients: bool,
    /// Of objectives: the loss compares pairs of a batch, so it is not the mean of its parts
    #[arg(long)]
    compares_pairs: bool,
}

/// How often a check says how far it is.
const PERIOD: Duration = Duration::from_secs(5);

/// Says on stderr what is checked, and every few seconds how many calls were made.
fn reported<T>(session: &Session, manifest: &Manifest, check: impl FnOnce() -> T) -> T {
    let (what, before) =
        (format!("{} `{}`", manifest.kind.section(), manifest.name), isr_testing::calls_made());
    let (progress, start) = (session.progress.clone(), Instant::now());
    let tell = async move {
        loop {
            tokio::time::sleep(PERIOD).await;
            let (calls, seconds) = (isr_testing::calls_made() - before, start.elapsed().as_secs());
            progress.line(format!("checking {what}: {calls} calls in {seconds} s"));
        }
    };
    let telling = session.spawn(tell);
    let checked = check();
    telling.abort();
    checked
}

/// A config with nothing but the component.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Section {
    plugins: Vec<PluginFile>,
    encoder: Option<Box<dyn EncoderConfig>>,
    policy: Option<Box<dyn PolicyConfig>>,
    retrospector: Option<Box<dyn RetrospectorConfig>>,
    judge: Option<Box<dyn JudgeConfig>>,
    objective: Option<Box<dyn ObjectiveConfig>>,
    data: Option<Box<dyn DataConfig>>,
    evaluator: Option<Box<dyn EvaluatorConfig>>,
    demonstrations: Option<Box<dyn DemonstrationsConfig>>,
    preferences: Option<Box<dyn PreferencesConfig>>,
    #[serde(default)]
    observers: Vec<Box<dyn ObserverConfig>>,
}

impl Validate for Section {}

/// The suite's sample has no facts: an evaluator that reads them may say nothing about it.
async fn evaluator(evaluator: Arc<dyn Evaluator>) -> Vec<Failure> {
    let sample = fixtures::labelled_sample();
    let mut found = isr_testing::evaluator(evaluator, &sample, "the bar is red.").await;
    found.retain(|failure| failure.rule != "assessment");
    found
}

impl CheckArgs {
    pub(super) fn execute(&self, session: &Session) -> Result<()> {
        let named = match self.module {
            true => PluginFile::of_module(self.file.to_string_lossy()),
            false => PluginFile::new(&self.file),
        };
        let file = PluginFile { call_s: self.call_s, ..named };
        let plugins = Plugins::load(&[file], &Plugins::folders())?;
        if let Some(seconds) = self.call_s {
            // A plugin's own limit comes first: its message says more. Its process may have to start again.
            isr_testing::set_longest_call(Duration::from_secs_f64(seconds) + Duration::from_secs(15));
        }
        let wanted = |manifest: &Manifest| self.name.as_ref().is_none_or(|name| *name == manifest.name);
        let chosen: Vec<_> = plugins.components().filter(|(manifest, _)| wanted(manifest)).collect();
        if chosen.is_empty() {
            bail!("{} has no component of that name", self.file.display());
        }
        let (mut broken, count) = (0, chosen.len());
        for (manifest, loaded) in chosen {
            let found = reported(session, manifest, || self.check(manifest, loaded, session))?;
            let (kind, name) = (manifest.kind.section(), &manifest.name);
            match found.len() {
                0 => print_line(format_args!("{kind} `{name}`: keeps the contract"))?,
                _ => broken += 1,
            }
            for failure in found {
                print_line(format_args!("{kind} `{name}`: {failure}"))?;
            }
        }
        match broken {
            0 => Ok(()),
            _ => bail!("{broken} of {count} components break the contract of their kind"),
        }
    }

    /// Builds and checks one. A component that cannot be built is one that fails.
    fn check(&self, manifest: &Manifest, loaded: &LoadedPlugin, session: &Session) -> Result<Vec<Failure>> {
        let settings = self.settings(manifest, loaded)?;
        let with = plugin::PluginSettings { settings: &settings, cx: &BuildContext::default() };
        let (plugin, name) = (loaded.plugin.as_ref(), manifest.name.as_str());
        if let Err(reason) = plugin.validate(manifest.kind, name, &settings) {
            return Ok(vec![Failure { rule: "example", found: reason }]);
        }
        let rules = ObjectiveRules {
            exact_gradient: !self.stops_gradients,
            splits: !self.compares_pairs,
            ..ObjectiveRules::default()
        };
        // Plugins are asked on threads of the runtime, as in a run.
        let found: Result<Vec<Failure>, Cause> = session.block_on(async {
            Ok(match manifest.kind {
                Kind::Judge => isr_testing::judge(plugin.judge(name, &with)?, &JudgeRules::default()).await,
                Kind::Retrospector => {
                    let built = plugin.retrospector(name, &with)?;
                    isr_testing::retrospector(built, &Arc::default()).await
                }
                Kind::Encoder => isr_testing::encoder(plugin.encoder(name, &with)?).await,
                Kind::Policy => isr_testing::policy(plugin.policy(name, &with)?).await,
                Kind::Evaluator => evaluator(plugin.evaluator(name, &with)?).await,
                Kind::Observer => isr_testing::observer(plugin.observer(name, &with)?),
                Kind::Data => isr_testing::data(plugin.data(name, &with)?).await,
                Kind::Preferences => isr_testing::preferences(plugin.preferences(name, &with)?).await,
                Kind::Demonstrations => {
                    isr_testing::demonstrations(plugin.demonstrations(name, &with)?).await
                }
                _ => isr_testing::objective(plugin.objective(name, &with)?, &rules),
            })
        });
        Ok(found.unwrap_or_else(|cause| vec![Failure { rule: "construct", found: cause.to_string() }]))
    }

    /// The settings of the example, checked by the schema as a config's are.
    fn settings(&self, manifest: &Manifest, loaded: &LoadedPlugin) -> Result<Map<String, Value>> {
        let (section, name) = (manifest.kind.section(), &manifest.name);
        let file = toml::Value::try_from(&loaded.entry)?;
        // Observers stand in a list.
        let (open, close, key) = match manifest.kind {
            Kind::Observer => ("[[", "]]", format!("{section}.0")),
            _ => ("[", "]", section.to_owned()),
        };
        let text =
            format!("plugins = [{file}]\n{open}{section}{close}\ntype = \"{name}\"\n{}", manifest.example);
        let set = self.set.iter().map(|set| format!("{key}.{set}"));
        let example = format!("the example of {section} `{name}`");
        let config = Loader::new().text(example, text, ".").overrides(set).load::<Section>()?;
        let found = match manifest.kind {
            Kind::Observer => config.settings[section].get(0),
            _ => config.settings.get(section),
        };
        let mut settings = match found {
            Some(Value::Object(settings)) => settings.clone(),
            _ => return Err(anyhow!("{section} `{name}` has no settings")),
        };
        settings.shift_remove("type");
        Ok(settings)
    }
}
