//! The list of registered components.

use isr_api::{Kind, first_sentence};
use schemars::{Schema, SchemaGenerator};

/// One registered component; made by [`register!`](crate::register).
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// The value of `type` in the config.
    pub name: &'static str,
    /// TOML body of a valid section, without the `type` line.
    pub example: &'static str,
    /// JSON schema of the config struct, `type` excluded.
    pub schema: fn() -> Schema,
    /// The same schema as part of a larger one: types that it refers to become the generator's.
    pub subschema: fn(&mut SchemaGenerator) -> Schema,
}

inventory::collect!(Entry);

impl Entry {
    /// The config struct's doc comment.
    pub fn description(&self) -> String {
        let schema = (self.schema)();
        let text = schema.get("description").and_then(|value| value.as_str());
        text.unwrap_or_default().to_owned()
    }

    /// The first sentence of the description, on one line.
    pub fn help(&self) -> String {
        first_sentence(&self.description())
    }
}

/// All registered components, by kind and name.
pub fn entries() -> Vec<&'static Entry> {
    let mut all: Vec<_> = inventory::iter::<Entry>.into_iter().collect();
    all.sort_by_key(|entry| (entry.kind, entry.name));
    all
}

/// The component of that kind and name.
pub fn find(kind: Kind, name: &str) -> Option<&'static Entry> {
    inventory::iter::<Entry>.into_iter().find(|entry| entry.kind == kind && entry.name == name)
}
