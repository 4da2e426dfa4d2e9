//! The sweep file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::{Table, Value};

use crate::claims::Claim;
use crate::error::SweepError;

/// Values by config path, as the schema has them.
type Settings = std::collections::BTreeMap<String, serde_json::Value>;

/// Contents of a sweep file (TOML). `docs/sweeps.md` has an example.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepFile {
    /// Base config, relative to the sweep file.
    pub extends: PathBuf,
    /// Name of the sweep and of its folder. Default: the file's name.
    pub name: Option<String>,
    /// Seeds; every arm is run with each of them.
    pub seeds: Vec<u64>,
    /// Name of the arm that others are compared with. Default: none.
    pub baseline: Option<String>,
    /// Settings of all arms, by config path. `{seed}` in a string is replaced by the seed, and `{base}` by the base's name.
    #[serde(default)]
    #[schemars(with = "Settings")]
    pub set: Table,
    /// Named arms.
    #[serde(default)]
    pub arms: Vec<NamedArm>,
    /// Base models, or another random factor beside seeds: every arm is run with every base and every seed, and intervals are over
    /// both. Default: none.
    #[serde(default)]
    pub bases: Vec<Base>,
    /// Claims: comparisons that are stated before the first run, and decided by `isr sweep`.
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// Grid search: lists of values by config path. Every named arm gets every combination.
    #[serde(default)]
    #[schemars(with = "Settings")]
    pub grid: Table,
    /// Random search: values drawn independently.
    pub random: Option<Draws>,
    /// Quasi-random search: values from a Halton sequence, which cover the ranges more evenly.
    pub quasi_random: Option<Draws>,
    /// Excluded combinations: tables of config path to value. An arm that sets all values of a table is left out.
    #[serde(default)]
    #[schemars(with = "Vec<Settings>")]
    pub exclude: Vec<Table>,
    /// Early stopping by successive halving. Default: none.
    pub halving: Option<Halving>,
    /// Scheduler: `{ type = "local", jobs = 2 }`, `slurm` or `ray` (`docs/schedulers.md`). Default: local.
    #[serde(default)]
    pub scheduler: crate::scheduler::SchedulerConfig,
    /// Whether arms reuse each other's identical stages and visual features. Default true.
    #[serde(default = "yes")]
    pub share: bool,
    /// CPU cores of a run: reserved by the scheduler, and its number of threads. Default 1.
    #[serde(default = "one")]
    pub cpus: u32,
    /// GPUs of a run. Default 0.
    #[serde(default)]
    pub gpus: u32,
    /// Processes of a run, on one machine (`isr run --processes`), which divide its cores and GPUs. Default 1.
    #[serde(default = "one")]
    pub processes: u32,
}

/// An entry of `[[arms]]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedArm {
    /// The arm's name, and that of its folder.
    pub name: String,
    /// Settings of the arm, by config path: values or whole tables.
    #[serde(default)]
    #[schemars(with = "Settings")]
    pub set: Table,
    /// CPU cores of a run of this arm. Default: the sweep's `cpus`.
    pub cpus: Option<u32>,
    /// GPUs of a run of this arm. Default: the sweep's `gpus`.
    pub gpus: Option<u32>,
    /// Processes of a run of this arm. Default: the sweep's `processes`.
    pub processes: Option<u32>,
}

/// An entry of `[[bases]]`: a level of a random factor, such as one of several base models.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// The base's name, and that of its folder within each arm's. Replaces `{base}` in strings of settings.
    pub name: String,
    /// Settings of all runs with this base, by config path: `{ "policy.model" = "runs/base-1/checkpoint" }`.
    #[serde(default)]
    #[schemars(with = "Settings")]
    pub set: Table,
}

/// CPU cores, GPUs and processes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// CPU cores.
    pub cpus: u32,
    /// GPUs.
    pub gpus: u32,
    /// Processes, which divide cores and GPUs.
    pub processes: u32,
}

impl Resources {
    /// Why a run cannot have them.
    fn problem(self) -> Option<String> {
        let Self { cpus, gpus, processes } = self;
        if processes == 0 || processes > u32::from(u16::MAX) {
            return Some(format!("`processes` is {processes}; it must be from 1 to {}", u16::MAX));
        }
        let divided = [("cpus", cpus.max(1)), ("gpus", gpus)];
        let uneven =
            divided.into_iter().find(|(_, count)| processes > 1 && !count.is_multiple_of(processes));
        uneven.map(|(key, count)| {
            format!(
                "`{key}` is {count}, which {processes} processes cannot divide; make it a multiple of `processes`"
            )
        })
    }
}

/// `[random]` and `[quasi_random]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Draws {
    /// Number of draws, from 1.
    pub draws: u32,
    /// Seed of the draws; of a Halton sequence, the seed of its random shift. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// Search space by config path: a list of values, or `{ low = 0.01, high = 1.0 }`, with `log = true`
    /// for draws even in the logarithm and `integer = true` for whole numbers.
    #[schemars(with = "Settings")]
    pub values: Table,
}

/// `[halving]`: successive halving (Jamieson and Talwalkar 2016, arXiv 1502.07943). Arms are ranked by the mean of a metric over seeds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Halving {
    /// Metric that ranks arms, named as in `sweep.json`: `greedy.accuracy`.
    pub metric: String,
    /// Direction of the metric. Default `maximise`.
    #[serde(default)]
    pub goal: Goal,
    /// Iterations after which arms are compared, ascending, from 1.
    pub rungs: Vec<u32>,
    /// Share of arms kept at each rung, in (0, 1). Default 0.5. The baseline is always kept.
    #[serde(default = "half")]
    pub keep: f64,
}

/// Direction of optimisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Higher is better.
    #[default]
    Maximise,
    /// Lower is better.
    Minimise,
}

/// Most runs of a sweep, which all have a folder.
pub(crate) const MOST_RUNS: usize = 100_000;
/// Most bytes of a sweep file.
const LARGEST: u64 = 16 << 20;

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
    /// Whether a TOML file looks like a sweep: it has keys that a sweep has and a config has not.
    pub fn is_one(path: &Path) -> bool {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let table: Table = text.parse().unwrap_or_default();
        let own =
            ["seeds", "arms", "bases", "claims", "grid", "random", "quasi_random", "halving", "baseline"];
        table.contains_key("seeds") && own[1..].iter().any(|key| table.contains_key(*key))
            || table.contains_key("arms")
    }

    /// The JSON schema (draft 2020-12) of sweep files, for editors.
    pub fn schema() -> schemars::Schema {
        schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Self>()
    }

    /// Reads a sweep file and validates everything that does not need its base config.
    ///
    /// # Errors
    /// [`SweepError::Unusable`], naming file, key and remedy.
    pub fn read(path: &Path) -> Result<Self, SweepError> {
        let shown = path.display();
        let text = read_bounded(path).map_err(|error| {
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

    /// Returns what a run of a named arm has, or of all arms where there is none.
    pub(crate) fn resources(&self, arm: Option<&NamedArm>) -> Resources {
        Resources {
            cpus: arm.and_then(|arm| arm.cpus).unwrap_or(self.cpus),
            gpus: arm.and_then(|arm| arm.gpus).unwrap_or(self.gpus),
            processes: arm.and_then(|arm| arm.processes).unwrap_or(self.processes),
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
        let draws = self.random.as_ref().or(self.quasi_random.as_ref()).map_or(0, |draws| draws.draws);
        if draws as usize > MOST_RUNS {
            return Some(format!("`draws` is {draws}; a sweep has at most {MOST_RUNS} runs"));
        }
        let own = |table: &Table| ["seed", "name"].into_iter().find(|key| table.contains_key(*key));
        let sets = self.arms.iter().map(|arm| &arm.set).chain(self.bases.iter().map(|base| &base.set));
        let sets = sets.chain([&self.set, &self.grid]);
        if let Some(key) = sets.filter_map(own).next() {
            return Some(format!(
                "`{key}` cannot be set; a sweep gives each run its own, of `seeds` and arms"
            ));
        }
        if let Some(problem) = self.resources(None).problem() {
            return Some(problem);
        }
        let of_arm = |arm: &NamedArm| Some((arm.name.clone(), self.resources(Some(arm)).problem()?));
        if let Some((name, problem)) = self.arms.iter().find_map(of_arm) {
            return Some(format!("arm `{name}`: {problem}"));
        }
        if let Some(problem) = self.problem_of_claims() {
            return Some(problem);
        }
        let Halving { rungs, keep, .. } = self.halving.as_ref()?;
        if rungs.is_empty() || rungs[0] == 0 || rungs.windows(2).any(|two| two[0] >= two[1]) {
            return Some("`halving.rungs` must be iterations from 1, ascending".to_owned());
        }
        (!(*keep > 0.0 && *keep < 1.0)).then(|| format!("`halving.keep` is {keep}; it must be in (0, 1)"))
    }
}

/// Reads a regular file of a bounded size.
fn read_bounded(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text)?;
    match text.len() as u64 > LARGEST {
        true => Err(io::Error::other(format!("it has more than {} MiB", LARGEST >> 20))),
        false => Ok(text),
    }
}

fn repeated(seeds: &[u64]) -> Option<u64> {
    let mut sorted = seeds.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|two| two[0] == two[1]).map(|two| two[0])
}

/// Equality of settings, by which `1` equals `1.0`.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Integer(one), Value::Float(other)) | (Value::Float(other), Value::Integer(one)) => {
            *one as f64 == *other
        }
        _ => one == other,
    }
}
