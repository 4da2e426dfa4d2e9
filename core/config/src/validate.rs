//! [`Validate`], the trait of root config structs, and the collection of invalid values.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The root struct of a config file, which [`Loader`](super::Loader) can load and validate.
///
/// Keys and types are checked against the JSON schema, so it must agree with the deserialiser: derive both, and
/// use no serde aliases, which a schema does not contain. The key `type` is reserved for selecting a component.
pub trait Validate: Serialize + DeserializeOwned + JsonSchema {
    /// Returns all values that are out of range; empty for a valid config. Default: empty.
    fn invalid(&self) -> Vec<Invalid> {
        Vec::new()
    }
}

/// An invalid value of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Key path: `train.epochs`.
    pub key: String,
    /// Problem and allowed range: `is 0; it must be at least 1`.
    pub reason: String,
}

/// Collects the invalid values of one section.
pub(super) struct Checks {
    section: &'static str,
    found: Vec<Invalid>,
}

impl Checks {
    pub(super) fn of(section: &'static str) -> Self {
        Self { section, found: Vec::new() }
    }

    /// Adds the value of a key unless it is valid.
    pub(super) fn require(&mut self, valid: bool, key: &str, value: impl Display, allowed: &str) {
        if !valid {
            self.add(key, format!("is {value}; it must be {allowed}"));
        }
    }

    /// Adds the error of a component's or a nested struct's `validate`. A message that begins with a key of the
    /// section, as it should, is filed under that key.
    pub(super) fn part(&mut self, part: &str, keys: &[String], result: Result<(), String>) {
        let Err(message) = result else { return };
        match message.split_once(' ') {
            Some((word, reason)) if keys.iter().any(|key| key == word.trim_matches('`')) => {
                self.add(&format!("{part}.{}", word.trim_matches('`')), reason.to_owned());
            }
            _ => self.add(part, format!("is not valid: {message}")),
        }
    }

    pub(super) fn done(self) -> Vec<Invalid> {
        self.found
    }

    /// Adds the problem of a key.
    pub(super) fn add(&mut self, key: &str, reason: String) {
        let key = if self.section.is_empty() { key.to_owned() } else { format!("{}.{key}", self.section) };
        self.found.push(Invalid { key, reason });
    }
}

/// Keys of a value that serialises as a table.
pub(super) fn keys(value: &impl Serialize) -> Vec<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(map)) => map.keys().cloned().collect(),
        _ => Vec::new(),
    }
}
