//! Results of a sweep, as in `sweep.json`. The structs document the format; fields are only added within a schema version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use isr_analysis::interval::mean_interval;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::SweepError;
use crate::metrics::{Figure, figures};
use crate::outcome::Outcome;
use crate::plan::{Member, Plan};

/// Version of `sweep.json`.
pub const SCHEMA: u32 = 1;

/// Method of the intervals in `sweep.json`.
pub const INTERVALS: &str = "Student's t, 95%, over seeds";

/// `sweep.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Version of this format: 1.
    pub schema: u32,
    /// The sweep's name.
    pub sweep: String,
    /// Arm that the others are compared with; null without one.
    pub baseline: Option<String>,
    /// Seeds of every arm.
    pub seeds: Vec<u64>,
    /// Method of all intervals: [`INTERVALS`].
    #[serde(default)]
    pub intervals: String,
    /// Arms in the file's order.
    pub arms: Vec<ArmResult>,
}

/// Results of an arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmResult {
    /// Name of the arm.
    pub name: String,
    /// Settings that differ from the base config, by config path.
    pub set: BTreeMap<String, Value>,
    /// Iteration after which successive halving stopped the arm; null if it did not.
    pub stopped_after: Option<u32>,
    /// Runs in the order of `seeds`.
    pub runs: Vec<RunResult>,
    /// Points by metric, in ascending order of iterations. Iteration 0 is the starting model. Metric names are those of [`isr_api::records::iteration_metrics`].
    pub metrics: BTreeMap<String, Vec<Point>>,
}

/// State of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Seed of the run.
    pub seed: u64,
    /// Run directory, relative to the sweep's folder.
    pub dir: PathBuf,
    /// Completion state.
    pub status: Status,
    /// Number of complete iterations.
    pub iterations: u32,
    /// Exit status and last log lines of a failed run; else null.
    pub error: Option<String>,
}

/// Completion state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All iterations are complete.
    Complete,
    /// The process ended with an error.
    Failed,
    /// Successive halving stopped the arm.
    Stopped,
    /// Not begun or interrupted; the same command continues it.
    Unfinished,
}

/// A metric of an arm at one iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The iteration.
    pub iteration: u32,
    /// Mean over the seeds that have a value.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Mean paired difference from the baseline: arm minus baseline at the same seed. Null for the baseline, and where no seed
    /// has both values.
    pub difference: Option<Estimate>,
    /// Values by seed.
    pub values: BTreeMap<u64, f64>,
}

/// A mean over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Arithmetic mean.
    pub mean: f64,
    /// 95% interval over seeds, Student's t ([`isr_analysis::interval::mean_interval`]); null for one seed, and where a value is not finite.
    pub interval: Option<[f64; 2]>,
    /// Number of seeds.
    pub n: usize,
}

/// Values of an arm: metric, iteration, seed.
type Values = BTreeMap<String, BTreeMap<u32, BTreeMap<u64, f64>>>;

/// Collects the results of a sweep from its run directories.
///
/// # Errors
/// [`SweepError::Core`] where a run's summary cannot be read.
pub fn results(plan: &Plan, outcome: &Outcome) -> Result<Results, SweepError> {
    let values: Vec<Values> =
        (0..plan.arms.len()).map(|arm| values(plan, arm)).collect::<Result<_, _>>()?;
    let baseline = plan.file.baseline.as_ref();
    let baseline = baseline.and_then(|name| plan.arms.iter().position(|arm| arm.name == *name));
    let arm = |index: usize| {
        let arm = &plan.arms[index];
        let runs = plan.members.iter().enumerate().filter(|(_, member)| member.arm == index);
        let base = baseline.filter(|&base| base != index).map(|base| &values[base]);
        Ok(ArmResult {
            name: arm.name.clone(),
            set: arm.set.iter().map(|(path, value)| (path.clone(), json(value))).collect(),
            stopped_after: outcome.stopped.get(&index).copied(),
            runs: runs.map(|(at, member)| run(plan, outcome, at, member)).collect::<Result<_, _>>()?,
            metrics: points(&values[index], base),
        })
    };
    Ok(Results {
        schema: SCHEMA,
        sweep: plan.name.clone(),
        baseline: plan.file.baseline.clone(),
        seeds: plan.file.seeds.clone(),
        intervals: INTERVALS.to_owned(),
        arms: (0..plan.arms.len()).map(arm).collect::<Result<_, SweepError>>()?,
    })
}

/// All metrics of an arm.
pub(crate) fn values(plan: &Plan, arm: usize) -> Result<Values, SweepError> {
    let mut values = Values::new();
    for member in plan.members.iter().filter(|member| member.arm == arm) {
        let Some(summary) = member.summary()? else { continue };
        for Figure { iteration, metric, value } in figures(&summary) {
            values.entry(metric).or_default().entry(iteration).or_default().insert(member.seed, value);
        }
    }
    Ok(values)
}

fn points(values: &Values, base: Option<&Values>) -> BTreeMap<String, Vec<Point>> {
    let point = |metric: &str, iteration: u32, values: &BTreeMap<u64, f64>| {
        let base = base.and_then(|base| base.get(metric)?.get(&iteration));
        let paired: Vec<f64> =
            values.iter().filter_map(|(seed, value)| Some(value - base?.get(seed)?)).collect();
        let own: Vec<f64> = values.values().copied().collect();
        let difference = (!paired.is_empty()).then(|| estimate(&paired));
        Point { iteration, estimate: estimate(&own), difference, values: values.clone() }
    };
    let series = |(metric, by_iteration): (&String, &BTreeMap<u32, BTreeMap<u64, f64>>)| {
        let points = by_iteration.iter().map(|(&iteration, values)| point(metric, iteration, values));
        (metric.clone(), points.collect())
    };
    values.iter().map(series).collect()
}

fn estimate(values: &[f64]) -> Estimate {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    Estimate { mean, interval: mean_interval(values), n: values.len() }
}

fn run(plan: &Plan, outcome: &Outcome, at: usize, member: &Member) -> Result<RunResult, SweepError> {
    let iterations = member.complete()?;
    let error = outcome.failed.get(&at).cloned();
    let status = match () {
        () if error.is_some() => Status::Failed,
        () if iterations >= member.iterations() => Status::Complete,
        () if outcome.stopped.contains_key(&member.arm) => Status::Stopped,
        () => Status::Unfinished,
    };
    let dir = member.dir.strip_prefix(&plan.dir).unwrap_or(&member.dir).to_owned();
    Ok(RunResult { seed: member.seed, dir, status, iterations, error })
}

fn json(value: &toml::Value) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

impl Results {
    /// Names of all metrics that any arm has.
    pub fn metrics(&self) -> BTreeSet<&str> {
        self.arms.iter().flat_map(|arm| arm.metrics.keys().map(String::as_str)).collect()
    }
}
