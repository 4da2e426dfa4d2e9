//! The problems that the checks report: key path, origin and remedy.

use config::{Map, Value, ValueKind};
use isr_api::first_sentence;
use serde_json::Value as Json;

use super::{Checker, sorted};
use crate::diagnostics::{hint, join, listed};

impl<'s> Checker<'s> {
    /// Reports a problem of the value at a key path.
    pub(super) fn problem(&mut self, at: &str, value: &Value, what: &str) -> Json {
        self.problems.push(format!("`{at}`{} {what}", origin(value)));
        Json::Null
    }

    pub(super) fn mismatch(&mut self, at: &str, value: &Value, expected: &str) -> Json {
        let found = found(&value.kind);
        self.problems.push(format!("`{at}`{}: expected {expected}, found {found}", origin(value)));
        Json::Null
    }

    pub(super) fn unknown_key(&mut self, path: &str, key: &str, value: &Value, schema: &Json) -> Json {
        let properties = schema.get("properties").and_then(Json::as_object);
        let known: Vec<&str> = properties.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        let hint = hint(key, &known);
        self.problems.push(format!("unknown key `{path}`{}{hint}", origin(value)));
        Json::Null
    }

    pub(super) fn missing_key(
        &mut self,
        at: &str,
        key: &str,
        table: &Map<String, Value>,
        schema: &'s Json,
    ) {
        let Some(property) = schema.get("properties").and_then(|all| all.get(key)) else { return };
        let path = join(at, key);
        let help = help(property).or_else(|| help(self.view.resolve(property))).unwrap_or_default();
        let of_table = || sorted(table).into_values().find_map(source).map(in_source);
        let origin = table.get("type").and_then(source).map(in_source);
        let origin = origin.or_else(|| of_table().filter(|_| !at.is_empty())).unwrap_or_default();
        self.problems.push(match self.view.tagged(property) {
            Some(choice) => {
                let names = listed(&choice.names());
                format!(
                    "missing section `[{path}]`{origin} ({help}); known values of `{}`: {names}",
                    choice.tag
                )
            }
            None => format!("missing key `{path}`{origin} ({help})"),
        });
    }
}

/// First sentence of a schema's description, without the full stop.
fn help(schema: &Json) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    Some(first_sentence(text).trim_end_matches('.').to_owned())
}

/// Origin of a value, ` in configs/demo.toml`; empty if unknown.
pub(super) fn origin(value: &Value) -> String {
    source(value).map(in_source).unwrap_or_default()
}

fn in_source(source: &str) -> String {
    format!(" in {source}")
}

/// Origin of a value. Merging drops the origin of tables, so theirs is that of their first value.
fn source(value: &Value) -> Option<&str> {
    let within = || match &value.kind {
        ValueKind::Table(table) => sorted(table).into_values().find_map(source),
        ValueKind::Array(items) => items.iter().find_map(source),
        _ => None,
    };
    value.origin().or_else(within)
}

/// Whether the value is `"none"`, which resets an optional key.
pub(super) fn is_none(value: &Value) -> bool {
    matches!(&value.kind, ValueKind::String(text) if text == "none")
}

fn found(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Boolean(truth) => truth.to_string(),
        ValueKind::Float(number) => format!("the number {number:?}"),
        ValueKind::String(text) => format!("string {text:?}"),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        integer => format!("integer {integer}"),
    }
}
