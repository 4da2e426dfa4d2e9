//! Checks of a plugin's manifest, and its schema as part of the config's.

use isr_api::{Kind, Manifest};
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value};

use super::check_schema;
use crate::registry::Entry;

/// Kinds of components that a plugin file can provide, unless its [loader](super::PluginLoader::kinds) says otherwise.
pub const KINDS: [Kind; 5] =
    [Kind::Encoder, Kind::Policy, Kind::Retrospector, Kind::Judge, Kind::Objective];

/// Most bytes of a text in a manifest.
const TEXT: usize = 64 << 10;

/// Schema keyword that marks a plugin's section within the config's schema.
pub(crate) const MARK: &str = "x-plugin";

/// Operations of the config engine on a [`Manifest`].
pub(crate) trait ManifestSchema {
    /// Checks kind (one of `kinds`), name, schema and example.
    fn check(&self, kinds: &[Kind]) -> Result<(), String>;
    /// Returns the schema for embedding, and adds its definitions to the generator's under a unique prefix.
    fn subschema(&self, generator: &mut SchemaGenerator) -> Schema;
}

impl ManifestSchema for Manifest {
    fn check(&self, kinds: &[Kind]) -> Result<(), String> {
        let Self { kind, name, .. } = self;
        if !kinds.contains(kind) {
            let kinds: Vec<_> = kinds.iter().map(|kind| kind.section()).collect();
            let kinds = kinds.join(", ");
            return Err(format!("`{name}` is of kind `{}`; a plugin may give: {kinds}", kind.section()));
        }
        if !is_name(name) {
            let rule = "1 to 64 letters in lower case, digits, `_` and `-`, beginning with a letter";
            let shown: String = name.chars().take(80).collect();
            return Err(format!("{shown:?} is no name for a {}; it must be {rule}", kind.section()));
        }
        let of = |reason: String| format!("{} `{name}`: {reason}", kind.section());
        for (what, text) in [("help", &self.help), ("example", &self.example), ("version", &self.version)] {
            if text.len() > TEXT {
                return Err(of(format!("its {what} has {} bytes; at most {TEXT} are allowed", text.len())));
            }
        }
        check_schema::check(&self.schema).map_err(|reason| of(format!("its config schema {reason}")))?;
        match self.example.parse::<toml::Table>() {
            Ok(_) => Ok(()),
            Err(error) => Err(of(format!("its example is not TOML: {}", error.message()))),
        }
    }

    fn subschema(&self, generator: &mut SchemaGenerator) -> Schema {
        let prefix = format!("{}.{}.", self.kind.section(), self.name);
        let mut schema = self.schema.clone();
        let definitions = schema.as_object_mut().and_then(|object| object.remove("$defs"));
        if let Some(Value::Object(definitions)) = definitions {
            for (name, mut definition) in definitions {
                relocate(&mut definition, &prefix);
                generator.definitions_mut().insert(format!("{prefix}{name}"), definition);
            }
        }
        relocate(&mut schema, &prefix);
        let mut object = match schema {
            Value::Object(object) => object,
            _ => Map::new(),
        };
        object.remove("$schema");
        object.insert("description".to_owned(), self.help.clone().into());
        object.insert(MARK.to_owned(), true.into());
        object.into()
    }
}

impl From<&Entry> for Manifest {
    fn from(entry: &Entry) -> Self {
        Self {
            kind: entry.kind,
            name: entry.name.to_owned(),
            version: String::new(),
            help: entry.description(),
            schema: (entry.schema)().to_value(),
            example: entry.example.to_owned(),
            features: Vec::new(),
        }
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(allowed)
}

/// Prefixes the targets of all references to definitions.
fn relocate(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::String(target)) = object.get_mut("$ref")
                && let Some(name) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#/$defs/{prefix}{name}");
            }
            object.values_mut().for_each(|value| relocate(value, prefix));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| relocate(item, prefix)),
        _ => {}
    }
}
