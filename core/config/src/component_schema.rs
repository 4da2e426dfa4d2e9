//! JSON schema of a component section: `oneOf` over registered components and those of the current plugins.

use std::borrow::Cow;

use isr_api::{Kind, Manifest, first_sentence};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::plugin::{self, ManifestSchema as _};
use crate::registry::{
    DataConfig, DemonstrationsConfig, EncoderConfig, Entry, EvaluatorConfig, JudgeConfig, ObjectiveConfig,
    ObserverConfig, PolicyConfig, PreferencesConfig, RetrospectorConfig, SamplerConfig, SelectionConfig,
    VideoConfig, entries,
};

macro_rules! component_schema {
    ($($config:ident => $kind:ident),+ $(,)?) => {
        $(impl JsonSchema for dyn $config {
            fn schema_name() -> Cow<'static, str> {
                stringify!($config).into()
            }

            fn schema_id() -> Cow<'static, str> {
                concat!("isr_config::registry::", stringify!($config)).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                one_of(Kind::$kind, generator)
            }
        })+
    };
}

component_schema!(
    DataConfig => Data,
    VideoConfig => Video,
    EncoderConfig => Encoder,
    PolicyConfig => Policy,
    SamplerConfig => Sampler,
    RetrospectorConfig => Retrospector,
    JudgeConfig => Judge,
    ObjectiveConfig => Objective,
    SelectionConfig => Selection,
    EvaluatorConfig => Evaluator,
    DemonstrationsConfig => Demonstrations,
    PreferencesConfig => Preferences,
    ObserverConfig => Observer,
);

fn one_of(kind: Kind, generator: &mut SchemaGenerator) -> Schema {
    let registered = entries().into_iter().filter(|entry| entry.kind == kind);
    let mut variants: Vec<Schema> = registered.map(|entry| registered_variant(entry, generator)).collect();
    let plugins = plugin::current_plugins();
    let manifests = plugins.components().map(|(manifest, _)| manifest).filter(|it| it.kind == kind);
    variants.extend(manifests.map(|manifest| plugin_variant(manifest, generator)));
    let mut schema = Schema::default();
    schema.insert("title".to_owned(), kind.section().into());
    schema.insert("oneOf".to_owned(), json!(variants));
    schema
}

fn registered_variant(entry: &Entry, generator: &mut SchemaGenerator) -> Schema {
    let schema = (entry.subschema)(generator);
    variant(entry.name, schema)
}

fn plugin_variant(manifest: &Manifest, generator: &mut SchemaGenerator) -> Schema {
    let schema = manifest.subschema(generator);
    variant(&manifest.name, schema)
}

/// The component's own schema with `type` as its first key.
fn variant(component: &str, mut schema: Schema) -> Schema {
    let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let help = first_sentence(description);
    let name = json!({ "description": help, "type": "string", "const": component });
    let mut properties = Map::new();
    properties.insert("type".to_owned(), name);
    if let Some(Value::Object(own)) = schema.remove("properties") {
        properties.extend(own);
    }
    let mut required = vec![json!("type")];
    if let Some(Value::Array(own)) = schema.remove("required") {
        required.extend(own);
    }
    schema.insert("title".to_owned(), component.into());
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("required".to_owned(), Value::Array(required));
    schema
}
