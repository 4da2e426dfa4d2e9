//! What can be known of a run's need of disk space before it starts.

use std::fs;
use std::path::Path;

use isr_run::store::{free_bytes, iteration_dir, shown_bytes};
use serde_json::Value;

/// Endings of files with weights.
const WEIGHTS: [&str; 3] = ["safetensors", "bin", "pt"];

/// Size of a snapshot of a training in checkpoints: the weights, and two moments in float32 of bfloat16 weights with
/// their float32 copies.
const SNAPSHOT: u64 = 7;

/// Warns if the checkpoints that a run will write do not fit where it writes them. Says nothing where their size
/// cannot be told: of adapters, and of a model that is not in a folder.
pub(crate) fn warn_of_space(dir: &Path, settings: &Value, iterations: u32, has_snapshots: bool) {
    let written =
        (1..=iterations).map(|t| iteration_dir(dir, t).join("checkpoint")).filter(|it| it.exists());
    let written: Vec<_> = written.collect();
    let one = written.last().map(|it| weights(it)).or_else(|| of_model(settings));
    let Some((one, free)) = one.filter(|bytes| *bytes > 0).zip(free_bytes(dir)) else { return };
    let left = u64::from(iterations).saturating_sub(written.len() as u64);
    if let Some(needed) = needed(one, left, has_snapshots).filter(|needed| *needed > free) {
        let (needed, free) = (shown_bytes(needed), shown_bytes(free));
        tracing::warn!(
            "{left} checkpoints of {}{} take about {needed}, and {free} are free in {}; make room, or the run will \
             stop when the disk is full (the same command then continues it)",
            shown_bytes(one),
            if has_snapshots { " and the snapshots of a training" } else { "" },
            dir.display()
        );
    }
}

/// Bytes of the checkpoints that are left, and of two snapshots: one is written before the other is removed.
fn needed(checkpoint: u64, left: u64, has_snapshots: bool) -> Option<u64> {
    let snapshots = if has_snapshots && left > 0 { 2 * SNAPSHOT } else { 0 };
    (left > 0).then(|| checkpoint.saturating_mul(left + snapshots))
}

/// Bytes of the weights of the model that is trained as a whole.
fn of_model(settings: &Value) -> Option<u64> {
    let policy = settings.get("policy")?;
    let has_adapters = policy.pointer("/training/lora").is_some_and(|lora| !lora.is_null());
    if has_adapters {
        return None;
    }
    Some(weights(Path::new(policy.get("model")?.as_str()?)))
}

fn weights(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_weights = |path: &std::path::PathBuf| {
        path.extension().and_then(|it| it.to_str()).is_some_and(|it| WEIGHTS.contains(&it))
    };
    files.filter(is_weights).filter_map(|path| Some(fs::metadata(path).ok()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_need_is_checkpoints_and_two_snapshots() {
        assert_eq!(needed(10, 3, false), Some(30));
        assert_eq!(needed(10, 3, true), Some(30 + 140));
        assert_eq!(needed(10, 0, true), None);
        assert_eq!(needed(u64::MAX, 9, true), Some(u64::MAX));
    }

    #[test]
    fn the_size_of_a_checkpoint_is_that_of_the_model_unless_adapters_are_trained() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model.safetensors"), [0; 100]).unwrap();
        fs::write(folder.path().join("config.json"), "{}").unwrap();
        let mut settings = json!({ "policy": { "model": folder.path() } });
        assert_eq!(of_model(&settings), Some(100));
        settings["policy"]["training"] = json!({ "lora": { "rank": 8 } });
        assert_eq!(of_model(&settings), None);
        assert_eq!(of_model(&json!({})), None);
    }
}
