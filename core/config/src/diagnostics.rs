//! Texts of config errors: hints at the nearest name, lists of allowed names, and one error for all problems.

use std::fs;
use std::path::{Path, PathBuf};

use isr_api::Error;

/// One error for all problems.
pub(super) fn reject(mut problems: Vec<String>) -> Result<(), Error> {
    match problems.len() {
        0 => Ok(()),
        1 => Err(Error::Config(problems.remove(0))),
        count => {
            Err(Error::Config(format!("{count} problems in the config:\n- {}", problems.join("\n- "))))
        }
    }
}

/// `; did you mean data/train.jsonl?` for a path that does not exist, where something like it does; else
/// nothing.
pub fn did_you_mean(path: &Path) -> String {
    nearest_path(path).map(|near| format!("; did you mean {}?", near.display())).unwrap_or_default()
}

/// The path with its first part that does not exist replaced by the name beside it that is most like
/// that part, if that makes a path that exists.
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

pub(super) fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
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
pub(super) fn nearest<'a>(wrong: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), name);
    let near = names.iter().map(|name| (distance(name), *name));
    let near = near.filter(|(distance, name)| *distance <= (name.chars().count() / 3).max(1));
    near.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}
