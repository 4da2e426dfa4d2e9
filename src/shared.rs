//! Stages that runs share: says for the cache what computes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::UNIX_EPOCH;
use std::{fs, io};

use isr_api::{Fingerprint, FingerprintBuilder, Kind, Manifest};
use isr_config::plugin::LoadedPlugin;
use isr_config::{LoadedConfig, RunConfig};
use isr_run::stage_cache::StageCache;
use serde_json::Value;

/// The cache of stages in `dir` for a run, to be handed to [`IterativeLoop::with_stage_cache`].
///
/// Runs share stages only where they were made by the same program with the same plugin files. A program that was
/// built anew is another one.
///
/// [`IterativeLoop::with_stage_cache`]: isr_run::IterativeLoop::with_stage_cache
pub fn stage_cache(dir: &Path, config: &LoadedConfig<RunConfig>) -> StageCache {
    let mut code = FingerprintBuilder::default();
    code.update(env!("CARGO_PKG_VERSION").as_bytes()).update(program().as_bytes());
    for (component, identity) in plugin_identities(config) {
        code.update(component.as_bytes()).update(identity.as_bytes());
    }
    StageCache::new(dir, config.settings.clone(), code.finish())
}

/// Version and file of each component of a plugin that a config names and that results depend on: `judge brevity` to
/// `0.1.0 3f6c...`, that of an installed module to `0.1.0 module NAME`.
pub(crate) fn plugin_identities<T>(config: &LoadedConfig<T>) -> BTreeMap<String, String> {
    // Results do not depend on observers.
    let counts =
        |manifest: &Manifest| manifest.kind != Kind::Observer && names(&config.settings, &manifest.name);
    let components = config.plugins.components().filter(|(manifest, _)| counts(manifest));
    let identity = |(manifest, loaded): (&Manifest, &LoadedPlugin)| {
        let digest = match &loaded.entry.module {
            // An installed module is what its version says.
            Some(module) => format!("module {module}"),
            // A file that is gone since it was loaded is another file.
            None => file_digest(&loaded.path)
                .map_or_else(|error| error.to_string(), |digest| digest.to_string()),
        };
        let component = format!("{} {}", manifest.kind.section(), manifest.name);
        (component, format!("{} {digest}", manifest.version))
    };
    components.map(identity).collect()
}

/// Whether any section, at any depth, has this `type`.
fn names(settings: &Value, component: &str) -> bool {
    match settings {
        Value::Object(map) => {
            map.get("type").is_some_and(|name| name == component)
                || map.values().any(|inner| names(inner, component))
        }
        Value::Array(items) => items.iter().any(|inner| names(inner, component)),
        _ => false,
    }
}

/// Digest of a file's bytes; of a folder, of the names and bytes of the files in it.
pub(crate) fn file_digest(path: &Path) -> io::Result<Fingerprint> {
    if !path.is_dir() {
        return fs::read(path).map(Fingerprint::of);
    }
    let mut paths: Vec<_> =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    paths.sort();
    let mut digest = FingerprintBuilder::default();
    for path in paths.into_iter().filter(|path| path.is_file()) {
        digest.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        digest.update(&fs::read(path)?);
    }
    Ok(digest.finish())
}

/// Size and time of the executable: as good as its digest, and read at once.
fn program() -> String {
    let data = std::env::current_exe().and_then(fs::metadata);
    data.map_or_else(
        |error| error.to_string(),
        |data| {
            let built = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            format!("{} {:?} {}", data.len(), built, std::env::consts::ARCH)
        },
    )
}
