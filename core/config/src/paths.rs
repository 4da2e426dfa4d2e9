//! Relative paths in config files.
//!
//! A relative path of a file or folder that a config reads is looked for beside the config file that names it, then in the
//! working directory, then in the parents of that file's folder. So a config in another folder can extend one that was
//! written for its project's folder. Paths of the environment and of `-s` are relative to the working directory.

use std::path::{Component, Path, PathBuf};

use toml::{Table, Value};

/// Keys of paths that are read, by section.
const KEYS: [(&str, &[&str]); 12] = [
    ("policy", &["model", "adapter"]),
    ("encoder", &["model"]),
    ("data", &["training", "evaluation", "audit", "video_root", "path"]),
    ("demonstrations", &["path", "training", "video_root", "media_root"]),
    ("preferences", &["path", "media_root"]),
    ("loop", &["path", "media_root"]),
    ("judge", &["ca_file", "annotations"]),
    ("retrospector", &["ca_file"]),
    ("evaluator", &["ca_file"]),
    ("scoring", &["ca_file"]),
    ("sets", &["questions", "videos"]),
    ("models", &["model", "predictions", "ca_file"]),
];

/// Replaces the relative paths of a file's table that are found elsewhere than in the working directory. `directory` is the
/// file's.
pub(super) fn resolve(directory: &Path, table: &mut Table) {
    let here = |text: &str| Path::new(text).exists();
    for (section, keys) in KEYS {
        let sections = match table.get_mut(section) {
            Some(Value::Table(section)) => vec![section],
            Some(Value::Array(items)) => items.iter_mut().filter_map(Value::as_table_mut).collect(),
            _ => Vec::new(),
        };
        for section in sections {
            each(section, keys, &mut |text| {
                if let Some(found) = found(directory, text, here) {
                    *text = found;
                }
            });
        }
    }
}

/// Visits the strings of these keys, in this section and in sections inside it (members of an ensemble).
fn each(section: &mut Table, keys: &[&str], visit: &mut impl FnMut(&mut String)) {
    for (key, value) in section.iter_mut() {
        match value {
            Value::String(text) if keys.contains(&key.as_str()) => visit(text),
            Value::Table(inner) => each(inner, keys, visit),
            Value::Array(items) => {
                let is_path = keys.contains(&key.as_str());
                for item in items {
                    match item {
                        Value::String(text) if is_path => visit(text),
                        Value::Table(inner) => each(inner, keys, visit),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// Where a relative path is found; `None` where it stays as it is: in the working directory, nowhere, or no path.
fn found(directory: &Path, text: &str, here: impl Fn(&str) -> bool) -> Option<String> {
    let path = Path::new(text);
    let is_path = !text.is_empty() && !text.contains("://") && path.is_relative();
    // Beside a file of the working directory is the working directory.
    if !is_path || directory.as_os_str().is_empty() {
        return None;
    }
    let beside = joined(directory, path);
    if beside.exists() {
        return beside.into_os_string().into_string().ok();
    }
    if here(text) {
        return None;
    }
    let absolute = std::path::absolute(directory).ok()?;
    let above: Vec<PathBuf> = absolute.ancestors().skip(1).map(|folder| joined(folder, path)).collect();
    let exists = above.iter().find(|candidate| candidate.exists());
    // A file that is missing in a folder that is there: no name of the hub. Far above, such a folder is an accident.
    let is_missing = |candidate: &&PathBuf| {
        path.components().count() > 1 && candidate.parent().is_some_and(Path::is_dir)
    };
    let missing = std::iter::once(&beside).chain(above.first()).find(is_missing);
    exists.or(missing)?.to_str().map(str::to_owned)
}

/// A path below a folder, without `.` and `x/..`.
fn joined(folder: &Path, path: &Path) -> PathBuf {
    let mut joined = folder.to_owned();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(joined.components().next_back(), Some(Component::Normal(_))) =>
            {
                joined.pop();
            }
            part => joined.push(part),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn project() -> tempfile::TempDir {
        let project = tempfile::tempdir().unwrap();
        for folder in ["configs/studies", "configs/base", "data", "configs/data"] {
            fs::create_dir_all(project.path().join(folder)).unwrap();
        }
        for file in ["data/train.jsonl", "data/both.jsonl", "configs/data/both.jsonl"] {
            fs::write(project.path().join(file), "").unwrap();
        }
        project
    }

    #[test]
    fn a_path_is_looked_for_beside_the_file_then_here_then_above() {
        let project = project();
        let root = project.path();
        let of = |folder: &str, text: &str| found(&root.join(folder), text, |_| false);
        let at = |text: &str| Some(root.join(text).display().to_string());
        assert_eq!(of("configs", "base"), at("configs/base"));
        assert_eq!(of("configs", "configs/base"), at("configs/base"), "the project's folder is above");
        assert_eq!(of("configs/studies", "../../data/train.jsonl"), at("data/train.jsonl"));
        assert_eq!(of("configs", "data/both.jsonl"), at("configs/data/both.jsonl"));
        assert_eq!(found(&root.join("configs"), "data/train.jsonl", |_| true), None, "here comes first");
        assert_eq!(
            found(&root.join("configs"), "data/both.jsonl", |_| true),
            at("configs/data/both.jsonl")
        );
    }

    #[test]
    fn a_missing_file_of_a_folder_that_is_there_is_a_path_and_a_name_of_the_hub_is_none() {
        let project = project();
        let root = project.path();
        let of = |text: &str| found(&root.join("configs"), text, |_| false);
        let missing = Some(root.join("configs/base-9").display().to_string());
        assert_eq!(of("configs/base-9"), missing);
        for text in ["llava-hf/llava-1.5-7b-hf", "hf://configs/base", "/configs/base", "", "base-9"] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(found(Path::new(""), "base", |_| false), None);
    }

    #[test]
    fn paths_of_sections_inside_are_found_and_other_keys_stay() {
        let project = project();
        let list =
            "[preferences]\npath = ['base', 'elsewhere']\n[[loop.mix]]\npreferences = { path = 'base' }";
        let mut table: Table = list.parse().unwrap();
        resolve(&project.path().join("configs"), &mut table);
        let found = project.path().join("configs/base").display().to_string();
        assert_eq!(table["preferences"]["path"][0].as_str(), Some(found.as_str()));
        assert_eq!(table["preferences"]["path"][1].as_str(), Some("elsewhere"));
        assert_eq!(table["loop"]["mix"][0]["preferences"]["path"].as_str(), Some(found.as_str()));
        let text =
            "[policy]\nmodel = 'base'\n[judge]\nmodel = 'base'\n[[judge.members]]\nannotations = 'base'";
        let mut table: Table = text.parse().unwrap();
        resolve(&project.path().join("configs"), &mut table);
        let base = project.path().join("configs/base").display().to_string();
        assert_eq!(table["policy"]["model"].as_str(), Some(base.as_str()));
        assert_eq!(table["judge"]["members"][0]["annotations"].as_str(), Some(base.as_str()));
        assert_eq!(
            table["judge"]["model"].as_str(),
            Some("base"),
            "a judge's model is a name on its server"
        );
    }
}
