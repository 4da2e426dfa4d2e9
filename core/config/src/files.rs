//! Config files and the files that they extend.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use isr_api::Error;

use super::diagnostics::did_you_mean;
use super::layer::Layer;
use crate::{paths, plugin};

/// Most bytes of a config file.
const LARGEST: u64 = 16 << 20;

/// Reads the layers of a file, the lowest first: the files that it extends, then itself.
pub(super) fn read(path: &Path) -> Result<Vec<Layer>, Error> {
    let mut layers = Vec::new();
    read_chain(path, &mut Vec::new(), &mut layers)?;
    Ok(layers)
}

/// Reads the layers of a text. Files that it extends are relative to `directory`.
pub(super) fn read_text(name: &str, text: &str, directory: &Path) -> Result<Vec<Layer>, Error> {
    let mut layers = Vec::new();
    let mut above = vec![(name.to_owned(), PathBuf::new())];
    add_text(name, text, directory, &mut above, &mut layers)?;
    Ok(layers)
}

/// Reads a file with its bases. `above` holds the chain of extending files: displayed and canonical path.
fn read_chain(
    path: &Path,
    above: &mut Vec<(String, PathBuf)>,
    layers: &mut Vec<Layer>,
) -> Result<(), Error> {
    let name = shown(path);
    let text = read_bounded(path, above.is_empty()).map_err(|error| unreadable(&name, above, &error))?;
    let real = fs::canonicalize(path).map_err(|error| Error::io("read", path, error))?;
    if let Some(first) = above.iter().position(|(_, other)| *other == real) {
        let chain = above[first..].iter().map(|(name, _)| name.as_str()).chain([name.as_str()]);
        let chain = chain.collect::<Vec<_>>().join(" -> ");
        return Err(Error::Config(format!("config files extend each other in a circle: {chain}")));
    }
    above.push((name.clone(), real));
    add_text(&name, &text, path.parent().unwrap_or(Path::new("")), above, layers)?;
    above.pop();
    Ok(())
}

/// Reads a file of at most [`LARGEST`] bytes. A pipe, as of `isr run <(program)`, may be what the user names, and not
/// what a file extends.
fn read_bounded(path: &Path, named_by_user: bool) -> io::Result<String> {
    let file = File::open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() || !(kind.is_file() || named_by_user) {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it has more than {} MiB, and is no config", LARGEST >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

fn add_text(
    name: &str,
    text: &str,
    directory: &Path,
    above: &mut Vec<(String, PathBuf)>,
    layers: &mut Vec<Layer>,
) -> Result<(), Error> {
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        Error::Config(format!("{name} is not valid TOML: {}", error.to_string().trim_end()))
    })?;
    for base in extended(name, table.remove("extends"))? {
        read_chain(&directory.join(base), above, layers)?;
    }
    if let Some(plugins) = table.get_mut("plugins") {
        plugin::beside(directory, plugins);
    }
    paths::resolve(directory, &mut table);
    layers.push(Layer::from_table(name, table));
    Ok(())
}

fn extended(name: &str, value: Option<toml::Value>) -> Result<Vec<String>, Error> {
    let wrong = || Error::Config(format!("`extends` in {name}: expected a file name, or a list of them"));
    let items = match value {
        None => return Ok(Vec::new()),
        Some(toml::Value::Array(items)) => items,
        Some(item) => vec![item],
    };
    items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

fn unreadable(name: &str, above: &[(String, PathBuf)], error: &std::io::Error) -> Error {
    let reason = match error.kind() {
        ErrorKind::NotFound => format!("there is no such file{}", did_you_mean(Path::new(name))),
        ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    let wanted = above.last().map(|(by, _)| format!(", which {by} extends")).unwrap_or_default();
    Error::Config(format!("cannot read config {name}{wanted}: {reason}"))
}

/// The path without `.` and `x/..`, for messages.
fn shown(path: &Path) -> String {
    let mut short = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(short.components().next_back(), Some(Component::Normal(_))) =>
            {
                short.pop();
            }
            part => short.push(part),
        }
    }
    short.display().to_string()
}
