//! Durations of a run's stages, from `timings.jsonl`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::report::table::Table;

/// Stages in the order of the loop.
const STAGES: [&str; 7] =
    ["respond", "retrospect", "judge", "preferences", "reference", "train", "evaluate"];

#[derive(Deserialize)]
struct TimingLine {
    iteration: u32,
    stage: String,
    seconds: f64,
    /// Whether the seconds were another run's.
    #[serde(default)]
    shared: bool,
}

/// Wall-clock seconds by iteration and stage, summed over sessions. The file holds no results: lines that cannot be read
/// are left out.
fn read(run: &Path) -> BTreeMap<u32, BTreeMap<String, f64>> {
    let text = fs::read_to_string(run.join("timings.jsonl")).unwrap_or_default();
    let mut seconds: BTreeMap<u32, BTreeMap<String, f64>> = BTreeMap::new();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<TimingLine>(line).ok());
    for line in lines.filter(|line| !line.shared) {
        *seconds.entry(line.iteration).or_default().entry(line.stage).or_default() += line.seconds;
    }
    seconds
}

/// Wall-clock time of all recorded stages of a run directory, in words; `None` without any.
pub fn duration_of(run: &Path) -> Option<String> {
    let seconds = read(run);
    (!seconds.is_empty()).then(|| duration(seconds.values().flat_map(BTreeMap::values).sum()))
}

/// One row per iteration, one column per stage.
pub(crate) fn table(run: &Path) -> Table {
    let seconds = read(run);
    let stages = STAGES.into_iter().filter(|stage| seconds.values().any(|of| of.contains_key(*stage)));
    let stages: Vec<&str> = stages.collect();
    let head = std::iter::once("iteration").chain(stages.iter().copied()).chain(std::iter::once("total"));
    let mut table = Table::new("Wall-clock time of each stage, over all sessions.", head);
    for (iteration, of) in &seconds {
        let cells = stages.iter().map(|stage| of.get(*stage).copied());
        let cells = cells.chain(std::iter::once(Some(of.values().sum())));
        let texts = cells.map(|seconds| seconds.map_or_else(|| super::MISSING.to_owned(), duration));
        table.rows.push(std::iter::once(iteration.to_string()).chain(texts).collect());
    }
    table
}

/// `4.2 s`, `3 min 12 s`, `2 h 05 min`.
fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        _ if !seconds.is_finite() => super::MISSING.to_owned(),
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_in_words() {
        let texts = [4.24, 192.0, 7500.0].map(duration);
        assert_eq!(texts, ["4.2 s", "3 min 12 s", "2 h 05 min"]);
    }

    #[test]
    fn sessions_add_up_and_half_a_line_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(duration_of(folder.path()), None);
        let lines = "{\"iteration\":1,\"stage\":\"judge\",\"seconds\":2}\n{\"iteration\":1,\"stage\":\"judge\",\"seconds\":3}\n{\"iter";
        fs::write(folder.path().join("timings.jsonl"), lines).unwrap();
        assert_eq!(duration_of(folder.path()).as_deref(), Some("5.0 s"));
        let table = table(folder.path());
        assert_eq!(
            (table.head, table.rows),
            (
                ["iteration", "judge", "total"].map(String::from).to_vec(),
                vec![["1", "5.0 s", "5.0 s"].map(String::from).to_vec()],
            )
        );
    }
}
