//! `provenance.json`: what made a run, and on what machine.

use std::fs;
use std::path::{Path, PathBuf};

use isr_api::{Error, Fingerprint, Kind, Manifest};
use isr_config::plugin::{LoadedPlugin, Plugins};
use isr_run::store::{read_json, write_json};
use serde::{Deserialize, Serialize};

use crate::command_line::redacted;
use crate::shared::file_digest;

/// `provenance.json`. Not a part of what equal runs share.
#[derive(Debug, Serialize, Deserialize)]
struct Provenance {
    /// Version of this format: 1.
    schema: u32,
    /// Fingerprint of the resolved config.
    config: Fingerprint,
    /// The run's seed.
    seed: u64,
    /// The session that started the run.
    #[serde(flatten)]
    first: Session,
    /// Those that went on with it, oldest first.
    #[serde(default)]
    continued: Vec<Session>,
}

/// One execution of the program.
#[derive(Debug, Serialize, Deserialize)]
struct Session {
    /// Version of isr-dpo.
    version: String,
    /// The command line, word by word, with `***` in the place of secrets.
    command: Vec<String>,
    /// When it began, UTC.
    started: String,
    /// Operating system.
    os: String,
    /// Processor architecture.
    arch: String,
    /// Processors that it could use.
    cpus: usize,
    /// Version of libtorch, where it can be told.
    libtorch: Option<String>,
    /// Components of plugins that it could name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<Outside>,
}

/// A component of a plugin.
#[derive(Debug, Serialize, Deserialize)]
struct Outside {
    kind: Kind,
    name: String,
    version: String,
    file: PathBuf,
    /// Fingerprint of the file's bytes, where it could be read.
    digest: Option<Fingerprint>,
}

/// Writes the file, or adds this session to it. It is no result: where it cannot be read or written this warns, and
/// the run goes on. A damaged one is moved aside.
pub(crate) fn record(run: &Path, config: &Fingerprint, seed: u64, plugins: &Plugins) {
    if let Err(error) = write(run, config, seed, plugins) {
        tracing::warn!(%error, "this session is not recorded");
    }
}

fn write(run: &Path, config: &Fingerprint, seed: u64, plugins: &Plugins) -> Result<(), Error> {
    let path = run.join("provenance.json");
    let session = Session::current(plugins);
    let old = read_json::<Provenance>(&path).or_else(|error| {
        let aside = run.join("provenance.json.damaged");
        tracing::warn!(%error, aside = %aside.display(), "it is moved aside, and begun anew");
        fs::rename(&path, &aside).map(|()| None).map_err(|error| Error::io("rename", &path, error))
    })?;
    let provenance = match old {
        Some(mut old) => {
            old.continued.push(session);
            old
        }
        None => {
            Provenance { schema: 1, config: config.clone(), seed, first: session, continued: Vec::new() }
        }
    };
    write_json(&path, &provenance)
}

impl Session {
    fn current(plugins: &Plugins) -> Self {
        let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            command: redacted(words),
            started: isr_run::utc_now(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            libtorch: libtorch_version(),
            plugins: plugins.components().map(outside).collect(),
        }
    }
}

fn outside((manifest, loaded): (&Manifest, &LoadedPlugin)) -> Outside {
    Outside {
        kind: manifest.kind,
        name: manifest.name.clone(),
        version: manifest.version.clone(),
        file: loaded.path.clone(),
        digest: loaded.entry.module.is_none().then(|| file_digest(&loaded.path).ok()).flatten(),
    }
}

/// The version that stands beside the library that this process has loaded; Linux only.
fn libtorch_version() -> Option<String> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with("/libtorch_cpu.so"))?;
    let library = PathBuf::from(&line[line.find('/')?..]);
    let version = fs::read_to_string(library.parent()?.parent()?.join("build-version")).ok()?;
    Some(version.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_added() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            record(folder.path(), &Fingerprint::of("x"), 7, &Plugins::default());
        }
        let read: Provenance = read_json(&folder.path().join("provenance.json")).unwrap().unwrap();
        assert_eq!((read.schema, read.seed, read.continued.len()), (1, 7, 2));
        fs::write(folder.path().join("provenance.json"), "{").unwrap();
        record(folder.path(), &Fingerprint::of("x"), 7, &Plugins::default());
        let read: Provenance = read_json(&folder.path().join("provenance.json")).unwrap().unwrap();
        assert_eq!(read.continued.len(), 0);
        assert_eq!(fs::read(folder.path().join("provenance.json.damaged")).unwrap(), b"{");
    }
}
