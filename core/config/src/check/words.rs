//! What the checks say.

use config::{Map, Value, ValueKind};
use isr_api::first_sentence;
use serde_json::Value as Json;

use super::{Checker, sorted};

impl<'s> Checker<'s> {
    /// Notes a problem of the value at a key.
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
        let help = help(property).or_else(|| help(self.outline.resolve(property))).unwrap_or_default();
        let of_table = || sorted(table).into_values().find_map(source).map(in_source);
        let origin = table.get("type").and_then(source).map(in_source);
        let origin = origin.or_else(|| of_table().filter(|_| !at.is_empty())).unwrap_or_default();
        self.problems.push(match self.outline.tagged(property) {
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

/// The first sentence of a schema's description, without its full stop.
fn help(schema: &Json) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    Some(first_sentence(text).trim_end_matches('.').to_owned())
}

pub(super) fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

/// ` in configs/demo.toml`, or nothing for a value of unknown origin.
pub(super) fn origin(value: &Value) -> String {
    source(value).map(in_source).unwrap_or_default()
}

fn in_source(source: &str) -> String {
    format!(" in {source}")
}

/// Merged tables have lost their origin; their first value has not.
fn source(value: &Value) -> Option<&str> {
    let within = || match &value.kind {
        ValueKind::Table(table) => sorted(table).into_values().find_map(source),
        ValueKind::Array(items) => items.iter().find_map(source),
        _ => None,
    };
    value.origin().or_else(within)
}

/// Whether an optional key is reset to nothing.
pub(super) fn is_none(value: &Value) -> bool {
    matches!(&value.kind, ValueKind::String(text) if text == "none")
}

pub(super) fn expected(types: &[&str]) -> String {
    let names = types.iter().filter(|name| **name != "null").map(|name| match *name {
        "integer" => "an integer",
        "number" => "a number",
        "string" => "a string",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a table",
        other => other,
    });
    let optional = types.contains(&"null") && !types.contains(&"string");
    let names = names.chain(optional.then_some("\"none\""));
    names.collect::<Vec<_>>().join(" or ")
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

pub(super) fn listed(names: &[&str]) -> String {
    if names.is_empty() { "(none is registered)".to_owned() } else { names.join(", ") }
}

/// The nearest name if one is near, else all names.
pub(super) fn hint(wrong: &str, names: &[&str]) -> String {
    match nearest(wrong, names) {
        Some(name) => format!("; did you mean `{name}`?"),
        None => format!("; known: {}", listed(names)),
    }
}

/// The nearest name if one is near, and all names.
pub(super) fn hint_and_list(wrong: &str, names: &[&str]) -> String {
    match nearest(wrong, names) {
        Some(name) => format!("; did you mean `{name}`? known: {}", listed(names)),
        None => format!("; known: {}", listed(names)),
    }
}

/// A name that differs by at most a third of its letters.
pub(in super::super) fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), name);
    let near = names.iter().map(|name| (distance(name), *name));
    let near = near.filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1));
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}
