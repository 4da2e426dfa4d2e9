//! The config of a component from a plugin: its name and its settings.
//!
//! typetag selects the config type by tag, and knows only the tags of compiled types. A checked section of a
//! plugin's component is therefore [tagged](tag) before deserialisation: `type` becomes [`TAG`], and the name moves
//! into a key called [`TAG`]. [`untag`] reverts this in serialised configs.

use std::sync::Arc;

use isr_api::{BuildContext, Cause, Kind};
use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::checked::Source;
use super::{LoadedPlugin, PluginError, PluginSettings, checked, current_plugins};
use crate::registry::{
    DataConfig, DemonstrationsConfig, EncoderConfig, EvaluatorConfig, JudgeConfig, ObjectiveConfig,
    ObserverConfig, PolicyConfig, PreferencesConfig, RetrospectorConfig,
};

/// Tag of all plugin configs. It cannot collide: keys and names contain no parentheses.
const TAG: &str = "(plugin)";

/// Tags a checked section as the config of a plugin's component.
pub(crate) fn tag(section: Value, name: &str) -> Value {
    let Value::Object(mut section) = section else { return section };
    section.insert("type".to_owned(), TAG.into());
    section.insert(TAG.to_owned(), name.into());
    Value::Object(section)
}

/// Reverts [`tag`] in a value, at any depth.
pub(crate) fn untag(value: Value) -> Value {
    match value {
        Value::Object(mut object) => {
            if let Some(name) = object.shift_remove(TAG) {
                object.insert("type".to_owned(), name);
            }
            object.into_iter().map(|(key, value)| (key, untag(value))).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.into_iter().map(untag).collect::<Vec<_>>().into(),
        other => other,
    }
}

/// Name and settings of a component, with the plugin that builds it.
#[derive(Debug)]
struct PluginConfig {
    name: String,
    settings: Map<String, Value>,
    from: LoadedPlugin,
}

impl PluginConfig {
    fn read<'de, D: Deserializer<'de>>(kind: Kind, deserializer: D) -> Result<Self, D::Error> {
        let mut settings = Map::deserialize(deserializer)?;
        let Some(Value::String(name)) = settings.shift_remove(TAG) else {
            return Err(D::Error::custom("a plugin's component has no name"));
        };
        match current_plugins().find(kind, &name) {
            Some((_, from)) => Ok(Self { name, settings, from: from.clone() }),
            None => Err(D::Error::custom(format!("no plugin gives the {} `{name}`", kind.section()))),
        }
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.settings.len() + 1))?;
        map.serialize_entry(TAG, &self.name)?;
        for (key, value) in &self.settings {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }

    fn source(&self) -> Source<'_> {
        Source { name: &self.name, file: &self.from.path }
    }

    fn failed(&self, cause: Cause) -> Cause {
        let file = self.from.path.display();
        PluginError::new(&self.name, "construct", format!("{cause} ({file})")).into()
    }
}

macro_rules! plugin_configs {
    ($($kind:ident: $config:ident, $build:ident => $built:ident, $checked:path;)+) => {$(
        /// Config of a plugin's component of this kind.
        #[derive(Debug)]
        struct $kind(PluginConfig);

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                PluginConfig::read(Kind::$kind, deserializer).map(Self)
            }
        }

        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.write(serializer)
            }
        }

        #[typetag::serde(name = "(plugin)")]
        impl $config for $kind {
            fn name(&self) -> &str {
                &self.0.name
            }

            fn validate(&self) -> Result<(), String> {
                let PluginConfig { name, settings, from } = &self.0;
                from.plugin.validate(Kind::$kind, name, settings)
            }

            fn build(&self, cx: &BuildContext) -> Result<Arc<dyn isr_api::$built>, Cause> {
                let PluginConfig { name, settings, from } = &self.0;
                let built = from.plugin.$build(name, &PluginSettings { settings, cx });
                built.map(|inner| $checked(self.0.source(), inner)).map_err(|cause| self.0.failed(cause))
            }
        }
    )+};
}

plugin_configs!(
    Encoder: EncoderConfig, encoder => VideoEncoder, checked::encoder;
    Policy: PolicyConfig, policy => Policy, checked::policy;
    Retrospector: RetrospectorConfig, retrospector => Retrospector, checked::retrospector;
    Judge: JudgeConfig, judge => Judge, checked::judge;
    Objective: ObjectiveConfig, objective => PreferenceObjective, checked::objective;
    Data: DataConfig, data => SampleSource, checked::data;
    Evaluator: EvaluatorConfig, evaluator => Evaluator, checked::evaluator;
    Demonstrations: DemonstrationsConfig, demonstrations => Demonstrations, checked::demonstrations;
    Preferences: PreferencesConfig, preferences => Preferences, checked::preferences;
    Observer: ObserverConfig, observer => Observer, checked::observer;
);
