//! The list of registered components.

use isr_api::{Kind, first_sentence};
use schemars::{Schema, SchemaGenerator};

/// A registered component. Created by [`register!`](crate::register).
pub struct Entry {
    /// Kind of the component.
    pub kind: Kind,
    /// Value of `type` in the config.
    pub name: &'static str,
    /// TOML body of a valid section, without the `type` line.
    pub example: &'static str,
    /// JSON schema of the config struct, without `type`.
    pub schema: fn() -> Schema,
    /// The same schema for embedding: referenced types are added to the generator's definitions.
    pub subschema: fn(&mut SchemaGenerator) -> Schema,
}

inventory::collect!(Entry);

impl Entry {
    /// Returns the config struct's doc comment.
    pub fn description(&self) -> String {
        let schema = (self.schema)();
        let text = schema.get("description").and_then(|value| value.as_str());
        text.unwrap_or_default().to_owned()
    }

    /// Returns the first sentence of the description, on one line.
    pub fn help(&self) -> String {
        first_sentence(&self.description())
    }
}

/// Returns all registered components, sorted by kind and name.
pub fn entries() -> Vec<&'static Entry> {
    let mut all: Vec<_> = inventory::iter::<Entry>.into_iter().collect();
    all.sort_by_key(|entry| (entry.kind, entry.name));
    all
}

/// Returns the registered component of this kind and name.
pub fn find(kind: Kind, name: &str) -> Option<&'static Entry> {
    inventory::iter::<Entry>.into_iter().find(|entry| entry.kind == kind && entry.name == name)
}
