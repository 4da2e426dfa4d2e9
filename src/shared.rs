//! Stages that runs share: says for the cache what computes.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use isr_api::{Fingerprint, FingerprintBuilder};
use isr_config::{LoadedConfig, RunConfig};
use isr_run::stage_cache::StageCache;

/// The cache of stages in `dir` for a run, to be handed to [`IterativeLoop::with_stage_cache`].
///
/// Runs share stages only where they were made by the same program with the same plugin files. A program that was
/// built anew is another one.
///
/// [`IterativeLoop::with_stage_cache`]: isr_run::IterativeLoop::with_stage_cache
pub fn stage_cache(dir: &Path, config: &LoadedConfig<RunConfig>) -> StageCache {
    let mut code = FingerprintBuilder::default();
    code.update(env!("CARGO_PKG_VERSION").as_bytes()).update(program().as_bytes());
    for loaded in config.plugins.files() {
        let digest = fs::read(&loaded.path).map(Fingerprint::of);
        code.update(loaded.path.as_os_str().as_encoded_bytes());
        code.update(digest.map_or_else(|error| error.to_string(), |digest| digest.to_string()).as_bytes());
    }
    StageCache::new(dir, config.settings.clone(), code.finish())
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
