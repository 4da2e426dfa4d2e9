//! What a config struct must be to be loaded.

use std::fmt::Display;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A config that [`Loader`](super::Loader) can load.
///
/// Keys are checked by the JSON schema, so the two must agree: derive both, and write no serde aliases,
/// which a schema does not show. A key named `type` is for choosing among variants only.
pub trait Validate: Serialize + DeserializeOwned + JsonSchema {
    /// Values that are out of range. Empty where all is well.
    fn invalid(&self) -> Vec<Invalid> {
        Vec::new()
    }
}

/// A value that its key does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Key path.
    pub key: String,
    /// What is wrong: `is 0; it must be at least 1`.
    pub reason: String,
}

/// Collects what is invalid in one section.
pub(super) struct Checks {
    section: &'static str,
    found: Vec<Invalid>,
}

impl Checks {
    pub(super) fn of(section: &'static str) -> Self {
        Self { section, found: Vec::new() }
    }

    /// Notes the key's value unless it is valid.
    pub(super) fn require(&mut self, valid: bool, key: &str, value: impl Display, allowed: &str) {
        if !valid {
            self.add(key, format!("is {value}; it must be {allowed}"));
        }
    }

    /// Notes what a component's or a part's `validate` says. Where that begins with a key of the
    /// section, as it should, the key joins the path.
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

    /// Notes what is wrong with a key's value.
    pub(super) fn add(&mut self, key: &str, reason: String) {
        let key = if self.section.is_empty() { key.to_owned() } else { format!("{}.{key}", self.section) };
        self.found.push(Invalid { key, reason });
    }
}

/// The keys of a value that serialises as a table.
pub(super) fn keys(value: &impl Serialize) -> Vec<String> {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(map)) => map.keys().cloned().collect(),
        _ => Vec::new(),
    }
}
