//! Texts of config errors: hints at the nearest name, lists of allowed names, and one error for all problems.

use std::fs;
use std::path::{Path, PathBuf};

use isr_api::Error;

/// Returns one error that lists all problems; `Ok` if there are none.
pub(super) fn reject(mut problems: Vec<String>) -> Result<(), Error> {
    match problems.len() {
        0 => Ok(()),
        1 => Err(Error::Config(problems.remove(0))),
        count => {
            Err(Error::Config(format!("{count} problems in the config:\n- {}", problems.join("\n- "))))
        }
    }
}

/// Returns a hint for a path that does not exist, `; did you mean data/train.jsonl?`; the empty string if no
/// existing path is similar.
pub fn did_you_mean(path: &Path) -> String {
    nearest_path(path).map(|near| format!("; did you mean {}?", near.display())).unwrap_or_default()
}

/// Replaces the first missing component of a path by the most similar name in that directory; `None` if the
/// result does not exist either.
fn nearest_path(path: &Path) -> Option<PathBuf> {
    let mut existing = PathBuf::new();
    let mut parts = path.components();
    for part in parts.by_ref() {
        let next = existing.join(part);
        if next.exists() {
            existing = next;
            continue;
        }
        let folder = if existing.as_os_str().is_empty() { Path::new(".") } else { &existing };
        let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = entries.filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut near = existing.join(nearest(part.as_os_str().to_str()?, &names)?);
        near.extend(parts);
        return Some(near).filter(|near| near.exists());
    }
    None
}

/// Appends a key to a key path.
pub(super) fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

/// Describes JSON schema types to a user: `an integer or "none"`.
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

/// Joins allowed names for a message.
pub(super) fn listed(names: &[&str]) -> String {
    if names.is_empty() { "(none is registered)".to_owned() } else { names.join(", ") }
}

/// Suggests the nearest name, or lists all names if none is near.
pub(super) fn hint(wrong: &str, names: &[&str]) -> String {
    match nearest(wrong, names) {
        Some(name) => format!("; did you mean `{name}`?"),
        None => format!("; known: {}", listed(names)),
    }
}

/// Lists all names, after the nearest one if any is near.
pub(super) fn hint_and_list(wrong: &str, names: &[&str]) -> String {
    match nearest(wrong, names) {
        Some(name) => format!("; did you mean `{name}`? known: {}", listed(names)),
        None => format!("; known: {}", listed(names)),
    }
}

/// Returns the name with the smallest Damerau-Levenshtein distance, at most a third of its length (or 1).
pub(super) fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), name);
    let near = names.iter().map(|name| (distance(name), *name));
    let near = near.filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1));
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}
