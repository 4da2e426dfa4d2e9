//! Names of arms, which also name folders.

use std::collections::{BTreeMap, HashSet};

use toml::{Table, Value};

/// Largest length of a value's label, in bytes.
const LABEL: usize = 24;

/// What [`is_folder`] asks of a name.
pub(super) const RULE: &str = "a name is letters, digits, `.`, `_`, `-`, `=` and `,`, at most 120, and begins with one of the first two";

/// Whether a name is valid for a folder on every system.
pub(super) fn is_folder(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    text.len() <= 120 && starts_well && text.chars().all(is_plain)
}

/// Name for runs and jobs, in which `=` and `,` are replaced by `-`.
pub(crate) fn plain(arm: &str) -> String {
    arm.replace(['=', ','], "-")
}

/// Name of the runs of an arm, with a base where there are several, up to their seed.
pub(crate) fn run(arm: &str, base: Option<&str>) -> String {
    match base {
        Some(base) => format!("{}-{}", plain(arm), plain(base)),
        None => plain(arm),
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '=' | ',')
}

/// The last part of each path, or all of it where another path ends in the same.
pub(super) fn short_names(table: &Table) -> BTreeMap<String, String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let of = |path: &String| {
        let shared = table.keys().filter(|other| last(other) == last(path)).count() > 1;
        (path.clone(), if shared { path.clone() } else { last(path) })
    };
    table.keys().map(of).collect()
}

/// A label for each value: the value, the `type` of a table, or, where those don't tell all values apart or
/// cannot stand in a name, its place in the list, from 1.
pub(super) fn labels(values: &[Value]) -> Vec<String> {
    let own: Option<Vec<String>> = values.iter().map(label).collect();
    match own {
        Some(labels) if labels.iter().collect::<HashSet<_>>().len() == labels.len() => labels,
        _ => (1..=values.len()).map(|place| place.to_string()).collect(),
    }
}

fn label(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Table(table) => table.get("type")?.as_str()?.to_owned(),
        Value::Array(_) | Value::Datetime(_) => return None,
        number => number.to_string(),
    };
    (text.len() <= LABEL && text.chars().all(is_plain)).then_some(text)
}
