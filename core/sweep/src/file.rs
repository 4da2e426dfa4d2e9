//! The sweep file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::error::SweepError;

/// A sweep file as it is written. `docs/sweeps.md` shows one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepFile {
    /// The config that all arms change, relative to the sweep file.
    pub extends: PathBuf,
    /// Name of the sweep and of its folder. Default: the file's name.
    pub name: Option<String>,
    /// The seeds that each arm is run with.
    pub seeds: Vec<u64>,
    /// The arm that the others are compared with. Default: none.
    pub baseline: Option<String>,
    /// SchedulerConfig of all arms, by config path. `{seed}` in a text stands for the seed.
    #[serde(default)]
    pub set: Table,
    /// Arms by name.
    #[serde(default)]
    pub arms: Vec<NamedArm>,
    /// Lists of values by config path: every combination, of every named arm.
    #[serde(default)]
    pub grid: Table,
    /// Arms with values that are drawn independently.
    pub random: Option<Draws>,
    /// Arms with values of a Halton sequence, which cover the ranges more evenly.
    pub quasi_random: Option<Draws>,
    /// Combinations that are left out: tables of config path to value, all of which an arm sets.
    #[serde(default)]
    pub exclude: Vec<Table>,
    /// Stops arms that do badly. Default: every arm is run to its end.
    pub halving: Option<Halving>,
    /// Where runs run: `{ type = "local", jobs = 2 }`, and what else `isr-schedule` knows. Default: this machine.
    #[serde(default)]
    pub scheduler: crate::scheduler::SchedulerConfig,
    /// Whether arms take over from each other what is the same in both. Default true.
    #[serde(default = "yes")]
    pub share: bool,
    /// Processors of a run: what a scheduler counts, and its threads. Default 1.
    #[serde(default = "one")]
    pub cpus: u32,
    /// GPUs that a run is given. Default 0.
    #[serde(default)]
    pub gpus: u32,
}

/// An entry of `[[arms]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedArm {
    /// The arm's name, and that of its folder.
    pub name: String,
    /// What is different in it, by config path: values, or whole tables.
    #[serde(default)]
    pub set: Table,
}

/// `[random]` and `[quasi_random]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draws {
    /// How many.
    pub draws: u32,
    /// Root of the draws; a Halton sequence is shifted by it. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// What to draw from, by config path: a list of values, or `{ low = 0.01, high = 1.0 }`, with `log = true`
    /// for draws even in the logarithm and `integer = true` for whole numbers.
    pub values: Table,
}

/// `[halving]`: successive halving (Jamieson and Talwalkar 2016) of arms, by their mean over seeds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halving {
    /// The metric, as `sweep.json` names it: `greedy.accuracy`.
    pub metric: String,
    /// Whether more of it is better. Default `maximise`.
    #[serde(default)]
    pub goal: Goal,
    /// After which iterations arms are compared, ascending.
    pub rungs: Vec<u32>,
    /// Share of the arms that goes on at each rung, in (0, 1). Default 0.5. The baseline always does.
    #[serde(default = "half")]
    pub keep: f64,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// More is better.
    #[default]
    Maximise,
    /// Less is better.
    Minimise,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

fn half() -> f64 {
    0.5
}

impl SweepFile {
    /// Reads a sweep file, and checks what can be told without its base config.
    ///
    /// # Errors
    /// [`SweepError::Unusable`], naming file, key and remedy.
    pub fn read(path: &Path) -> Result<Self, SweepError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let near = isr_config::did_you_mean(path);
            SweepError::Unusable(format!("cannot read sweep {shown}: {error}{near}"))
        })?;
        let file: Self = toml::from_str(&text).map_err(|error| {
            SweepError::Unusable(format!("{shown} is no sweep: {}", error.to_string().trim_end()))
        })?;
        match file.problem() {
            Some(problem) => Err(SweepError::Unusable(format!("{shown}: {problem}"))),
            None => Ok(file),
        }
    }

    fn problem(&self) -> Option<String> {
        if self.seeds.is_empty() {
            return Some("`seeds` is empty; name at least one".to_owned());
        }
        if let Some(seed) = repeated(&self.seeds) {
            return Some(format!("`seeds` has {seed} twice; name it once"));
        }
        if self.random.is_some() && self.quasi_random.is_some() {
            return Some("it has both `random` and `quasi_random`; choose one".to_owned());
        }
        let own = |table: &Table| ["seed", "name"].into_iter().find(|key| table.contains_key(*key));
        let sets = self.arms.iter().map(|arm| &arm.set).chain([&self.set, &self.grid]);
        if let Some(key) = sets.filter_map(own).next() {
            return Some(format!(
                "`{key}` cannot be set; a sweep gives each run its own, of `seeds` and arms"
            ));
        }
        let Halving { rungs, keep, .. } = self.halving.as_ref()?;
        if rungs.is_empty() || rungs[0] == 0 || rungs.windows(2).any(|two| two[0] >= two[1]) {
            return Some("`halving.rungs` must be iterations from 1, ascending".to_owned());
        }
        (!(*keep > 0.0 && *keep < 1.0)).then(|| format!("`halving.keep` is {keep}; it must be in (0, 1)"))
    }
}

fn repeated(seeds: &[u64]) -> Option<u64> {
    let mut sorted = seeds.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|two| two[0] == two[1]).map(|two| two[0])
}

/// Whether two values are the same setting: `1` and `1.0` are.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Integer(one), Value::Float(other)) | (Value::Float(other), Value::Integer(one)) => {
            *one as f64 == *other
        }
        _ => one == other,
    }
}
