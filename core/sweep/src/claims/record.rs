//! `claims.json`: what was stated, and whether before the first result.

use std::collections::BTreeSet;

use isr_run::store::{read_json, write_json};
use serde::{Deserialize, Serialize};

use super::Comparison;
use crate::error::SweepError;
use crate::plan::Plan;
use crate::results::Results;

/// `claims.json` in the sweep's folder. Written before the first run; entries are only added once a run has results.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    claims: Vec<Entry>,
}

/// A claim as it was stated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    comparison: Comparison,
    /// Seeds of the sweep.
    seeds: Vec<u64>,
    /// Names of its bases.
    bases: Vec<String>,
    /// Whether a run had results when it was stated.
    after_results: bool,
}

/// What is on record about the claims of a plan.
#[derive(Debug, Default)]
pub(crate) struct Stated {
    /// For each claim of the plan whether it was stated, or changed, after a run had results.
    pub(crate) after_results: Vec<bool>,
    /// Names of claims that were on record when a run had results, and that the plan no longer has.
    pub(crate) withdrawn: Vec<String>,
}

/// Writes the claims of a plan into its folder, before its first run. Claims that were written before keep their mark.
///
/// # Errors
/// [`SweepError::Core`] where the record, or a run's summary, cannot be read or written.
pub(crate) fn state(plan: &Plan) -> Result<(), SweepError> {
    let path = plan.dir.join("claims.json");
    let old: Record = read_json(&path)?.unwrap_or_default();
    if plan.claims.is_empty() && old.claims.is_empty() {
        return Ok(());
    }
    let after_results = has_results(plan)?;
    let mut claims = if after_results { old.claims.clone() } else { Vec::new() };
    for comparison in &plan.claims {
        let entry = match find(&old, plan, comparison) {
            Some(entry) => entry.clone(),
            None => Entry {
                comparison: comparison.clone(),
                seeds: plan.file.seeds.clone(),
                bases: bases(plan),
                after_results,
            },
        };
        if !claims.contains(&entry) {
            claims.push(entry);
        }
    }
    Ok(write_json(&path, &Record { claims })?)
}

/// Reads what is on record about the claims of a plan. A claim that is not on record was stated after the results.
///
/// # Errors
/// [`SweepError::Core`] where the record cannot be read.
pub(crate) fn read_stated(plan: &Plan) -> Result<Stated, SweepError> {
    let record: Record = read_json(&plan.dir.join("claims.json"))?.unwrap_or_default();
    let after = |comparison| find(&record, plan, comparison).is_none_or(|entry| entry.after_results);
    let names: BTreeSet<&str> = plan.claims.iter().map(|claim| claim.name.as_str()).collect();
    let on_record: BTreeSet<&str> =
        record.claims.iter().map(|entry| entry.comparison.name.as_str()).collect();
    Ok(Stated {
        after_results: plan.claims.iter().map(after).collect(),
        withdrawn: on_record.difference(&names).map(|name| (*name).to_owned()).collect(),
    })
}

fn find<'r>(record: &'r Record, plan: &Plan, comparison: &Comparison) -> Option<&'r Entry> {
    let bases = bases(plan);
    record.claims.iter().find(|entry| {
        entry.comparison == *comparison && entry.seeds == plan.file.seeds && entry.bases == bases
    })
}

fn bases(plan: &Plan) -> Vec<String> {
    plan.file.bases.iter().map(|base| base.name.clone()).collect()
}

/// Whether a run of the sweep, or an earlier one that `sweep.json` tells of, has figures.
fn has_results(plan: &Plan) -> Result<bool, SweepError> {
    for member in &plan.members {
        if member.summary()?.is_some() {
            return Ok(true);
        }
    }
    // One of another version tells of results all the same.
    let path = plan.dir.join("sweep.json");
    let earlier = read_json::<Results>(&path);
    Ok(path.exists() && earlier.is_ok_and(|it| it.is_none_or(|results| !results.metrics().is_empty())))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::claims::Direction;

    fn claim(name: &str, direction: Direction) -> Comparison {
        Comparison {
            name: name.to_owned(),
            arm: "a".to_owned(),
            iteration: 2,
            against: "b".to_owned(),
            against_iteration: 2,
            metric: "greedy.accuracy".to_owned(),
            direction,
            margin: None,
        }
    }

    /// States the claims of a plan without runs, and returns what is then on record.
    fn stated(dir: &Path, seeds: &[u64], claims: &[Comparison]) -> Stated {
        let file = format!("extends = 'base.toml'\nseeds = {seeds:?}");
        let plan = Plan {
            name: "s".to_owned(),
            dir: dir.to_owned(),
            file: toml::from_str(&file).unwrap(),
            arms: Vec::new(),
            members: Vec::new(),
            claims: claims.to_vec(),
        };
        state(&plan).unwrap();
        read_stated(&plan).unwrap()
    }

    fn with_results(dir: &Path) {
        let point = json!({ "iteration": 1, "mean": 0.5, "interval": null, "n": 1, "difference": null });
        let arm = json!({ "name": "a", "set": {}, "stopped_after": null, "runs": [], "metrics": { "samples": [point] } });
        let results = json!({ "schema": 1, "sweep": "s", "baseline": null, "seeds": [1], "arms": [arm] });
        std::fs::write(dir.join("sweep.json"), results.to_string()).unwrap();
    }

    #[test]
    fn claims_may_change_until_a_run_has_results() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let (one, two) = (claim("one", Direction::Higher), claim("two", Direction::Higher));
        assert_eq!(stated(dir, &[1, 2], &[]).after_results, [] as [bool; 0]);
        assert!(!dir.join("claims.json").exists(), "there is nothing to record");
        stated(dir, &[1, 2], &[two]);
        let first = stated(dir, &[1, 2, 3], std::slice::from_ref(&one));
        assert_eq!((first.after_results, first.withdrawn), (vec![false], Vec::new()));

        with_results(dir);
        let other = claim("one", Direction::Differs);
        let three = claim("three", Direction::Lower);
        let added = stated(dir, &[1, 2, 3], &[one.clone(), three.clone()]);
        assert_eq!(added.after_results, [false, true]);
        assert_eq!(stated(dir, &[1, 2, 3], &[other]).after_results, [true]);
        let more_seeds = stated(dir, &[1, 2, 3, 4], std::slice::from_ref(&one));
        assert_eq!(more_seeds.after_results, [true], "seeds that were added after a look");
        let again = stated(dir, &[1, 2, 3], &[one]);
        assert_eq!((again.after_results, again.withdrawn), (vec![false], vec!["three".to_owned()]));
        assert_eq!(stated(dir, &[1, 2, 3], &[]).withdrawn, ["one", "three"]);

        // Who removes the record has stated nothing before.
        std::fs::remove_file(dir.join("claims.json")).unwrap();
        assert_eq!(stated(dir, &[1, 2, 3], &[three]).after_results, [true]);
    }
}
