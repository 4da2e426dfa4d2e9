//! Times of runs outside a sweep, for a first estimate.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use isr_api::Stage;
use isr_run::store::read_journal;
use serde_json::Value;

use crate::forecast::Timing;
use crate::plan::{Plan, setting};

/// Sections in which a run must equal the sweep's first, so that its times tell of the sweep's.
const ALIKE: [&str; 4] = ["policy", "data", "video", "encoder"];

/// Stages of a run, each with the key of the number of its samples.
const STAGES: [(Stage, &str); 5] = [
    (Stage::Respond, "loop.samples"),
    (Stage::Retrospect, "loop.samples"),
    (Stage::Judge, "loop.samples"),
    (Stage::Train, "loop.samples"),
    (Stage::Evaluate, "evaluation.samples"),
];

/// Mean seconds of each kind of stage, of runs below `runs` and `sweeps` in the working directory that have the model and data of
/// the plan's first run. Times are in proportion to the number of samples.
pub(crate) fn means(plan: &Plan) -> HashMap<Stage, f64> {
    let Some(first) = plan.members.first() else { return HashMap::new() };
    means_of(
        &below("runs", 1).into_iter().chain(below("sweeps", 4)).collect::<Vec<_>>(),
        &first.config.settings,
    )
}

fn means_of(runs: &[PathBuf], settings: &Value) -> HashMap<Stage, f64> {
    let mut found: HashMap<Stage, Vec<f64>> = HashMap::new();
    for run in runs {
        let Some(theirs) = config(run).filter(|theirs| alike(theirs, settings)) else { continue };
        let timings: Vec<Timing> = read_journal(&run.join("timings.jsonl")).unwrap_or_default();
        for (stage, samples) in STAGES {
            let Some(ratio) = ratio(setting(settings, samples), setting(&theirs, samples)) else {
                continue;
            };
            let of_stage = timings.iter().filter(|timing| timing.stage == stage.name());
            found.entry(stage).or_default().extend(of_stage.map(|timing| timing.seconds * ratio));
        }
    }
    found.retain(|_, seconds| !seconds.is_empty());
    found.into_iter().map(|(stage, all)| (stage, all.iter().sum::<f64>() / all.len() as f64)).collect()
}

/// Folders so many levels below this one.
fn below(folder: impl AsRef<Path>, levels: usize) -> Vec<PathBuf> {
    if levels == 0 {
        return vec![folder.as_ref().to_owned()];
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.into_iter().flat_map(|path| below(path, levels - 1)).collect()
}

fn config(run: &Path) -> Option<Value> {
    toml::from_str(&fs::read_to_string(run.join("config.toml")).ok()?).ok()
}

/// Whether both have the same sections; an absent key is null.
fn alike(theirs: &Value, settings: &Value) -> bool {
    let null = Value::Null;
    let of =
        |value: &'static str| (theirs.get(value).unwrap_or(&null), settings.get(value).unwrap_or(&null));
    ALIKE.into_iter().map(of).all(|(theirs, ours)| without_nulls(theirs) == without_nulls(ours))
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// Ratio of two numbers of samples; 1 where both have all.
fn ratio(ours: Option<&Value>, theirs: Option<&Value>) -> Option<f64> {
    let number = |value: Option<&Value>| value.and_then(Value::as_f64);
    match (number(ours), number(theirs)) {
        (None, None) => Some(1.0),
        (Some(ours), Some(theirs)) if theirs > 0.0 => Some(ours / theirs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_of_runs_of_the_same_model_count_in_proportion_to_samples() {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, model: &str| {
            let run = folder.path().join(name);
            fs::create_dir_all(&run).unwrap();
            fs::write(
                run.join("config.toml"),
                format!("[policy]\nmodel = '{model}'\n[loop]\nsamples = 10\n"),
            )
            .unwrap();
            let line = |stage: Stage, seconds| json!({ "iteration": 1, "stage": stage.name(), "seconds": seconds });
            let lines = [line(Stage::Respond, 1.0), line(Stage::Respond, 3.0), line(Stage::Evaluate, 5.0)];
            let lines: Vec<String> = lines.iter().map(|line| format!("{line}\n")).collect();
            fs::write(run.join("timings.jsonl"), lines.concat()).unwrap();
        };
        run("a", "base");
        run("b", "other");
        let settings = json!({ "policy": { "model": "base", "adapter": null }, "loop": { "samples": 40 }, "data": null });
        let means = means_of(&below(folder.path(), 1), &settings);
        assert_eq!(means, HashMap::from([(Stage::Respond, 8.0), (Stage::Evaluate, 5.0)]));
    }
}
