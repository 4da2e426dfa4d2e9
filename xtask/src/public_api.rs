//! The public items of the crates that others depend on, as files that a change of them changes too.
//!
//! A list is made from the source text: each line that declares a public item outside of tests, by file. It says
//! nothing of what is re-exported, but no signature changes unseen.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::repository;

/// Crates whose lists are kept, beside their `Cargo.toml`.
const CRATES: [&str; 2] = ["core/api", "core/sdk"];
const FILE: &str = "public-api.txt";

/// Whether the lists are written or compared.
#[derive(Args, Default)]
pub(crate) struct ApiArgs {
    /// Write the lists anew, for a change of the API that is meant
    #[arg(long)]
    write: bool,
}

/// Compares the lists with the source, or writes them.
pub(crate) fn run(args: &ApiArgs) -> Result<()> {
    let root = repository::root()?;
    for krate in CRATES {
        let path = root.join(krate).join(FILE);
        let now = listed(&root.join(krate).join("src"))?;
        if args.write {
            fs::write(&path, &now).with_context(|| format!("cannot write {}", path.display()))?;
            continue;
        }
        let then = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if let Some(line) = first_difference(&then, &now) {
            bail!(
                "the public API of {krate} changed: {line}; hint: if that is meant, `cargo xtask api --write`, and say \
                 it in CHANGELOG.md"
            );
        }
    }
    Ok(())
}

fn first_difference(then: &str, now: &str) -> Option<String> {
    let gone = then.lines().find(|line| !now.lines().any(|other| other == *line));
    let new = now.lines().find(|line| !then.lines().any(|other| other == *line));
    match (gone, new) {
        (Some(gone), _) => Some(format!("`{}` is gone", gone.trim())),
        (None, Some(new)) => Some(format!("`{}` is new", new.trim())),
        (None, None) => (then != now).then(|| "items moved".to_owned()),
    }
}

fn listed(sources: &Path) -> Result<String> {
    let mut files = Vec::new();
    collect(sources, &mut files)?;
    files.sort();
    let mut list = String::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let items = items(&text);
        if !items.is_empty() {
            let name = file.strip_prefix(sources).unwrap_or(&file).display();
            list.push_str(&format!("{name}\n{items}"));
        }
    }
    Ok(list)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The declarations before the tests of a file, an indented line each; a signature over several lines is joined.
fn items(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut lines = code.lines().map(str::trim);
    let mut items = String::new();
    while let Some(line) = lines.next() {
        let declares = line.starts_with("pub ") || line.starts_with("fn ") || line.starts_with("async fn ");
        if !declares {
            continue;
        }
        let mut item = line.to_owned();
        while !item.ends_with(['{', ';', ',', '}']) || item.matches('(').count() > item.matches(')').count()
        {
            let Some(next) = lines.next() else { break };
            item.push(' ');
            item.push_str(next);
        }
        items.push_str(&format!("    {}\n", item.trim_end_matches(['{', ' '])));
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_listed_and_tests_are_not() {
        let text = "/// x\npub struct A {\n    pub b: u8,\n    c: u8,\n}\npub fn f(\n    a: A,\n) -> u8 {\n    0\n}\n#[cfg(test)]\npub fn g() {}\n";
        assert_eq!(items(text), "    pub struct A\n    pub b: u8,\n    pub fn f( a: A, ) -> u8\n");
    }

    #[test]
    fn what_is_gone_or_new_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\n"), Some("`b` is gone".to_owned()));
        assert_eq!(first_difference("a\n", "a\nc\n"), Some("`c` is new".to_owned()));
        assert_eq!(first_difference("a\n", "a\n"), None);
    }
}
