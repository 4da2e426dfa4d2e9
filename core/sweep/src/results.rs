//! Results of a sweep, as in `sweep.json`. The structs document the format; fields are only added within a schema version.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use isr_analysis::interval::mean_interval;
use isr_analysis::mean_effect::{Cells, MeanEffect};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::claims::{ClaimResult, Comparison, Sides, decide, read_stated};
use crate::error::SweepError;
use crate::metrics::{Figure, figures};
use crate::outcome::Outcome;
use crate::plan::{Member, Plan};

/// Version of `sweep.json`.
pub const SCHEMA: u32 = 1;

/// Method of the intervals in `sweep.json`.
pub const INTERVALS: &str = "Student's t, 95%, over seeds";

/// Method of the intervals of a sweep over several bases ([`MeanEffect::of`]).
pub const INTERVALS_OF_BASES: &str = "Student's t, 95%, over bases and seeds";

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
    /// Bases of every arm; absent without bases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<String>,
    /// Method of all intervals: [`INTERVALS`] or [`INTERVALS_OF_BASES`].
    #[serde(default)]
    pub intervals: String,
    /// Claims in the file's order, and what came of them; absent without claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<ClaimResult>,
    /// Names of claims that were removed from the file after a run had results; absent without. They count in the correction for the
    /// number of claims.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn_claims: Vec<String>,
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
    /// Runs in the order of `bases`, then `seeds`.
    pub runs: Vec<RunResult>,
    /// Points by metric, in ascending order of iterations. Iteration 0 is the starting model. Metric names are those of [`isr_api::records::iteration_metrics`].
    pub metrics: BTreeMap<String, Vec<Point>>,
}

/// State of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Base of the run; absent without bases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
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

impl Status {
    /// The state in a word, as in `sweep.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Unfinished => "unfinished",
        }
    }
}

impl Point {
    /// All values with their bases, if there are bases, and seeds.
    pub fn cells(&self) -> impl Iterator<Item = (Option<&str>, u64, f64)> {
        let alone = self.values.iter().map(|(&seed, &value)| (None, seed, value));
        let by_base = self.values_by_base.iter().flat_map(|(base, values)| {
            values.iter().map(move |(&seed, &value)| (Some(base.as_str()), seed, value))
        });
        alone.chain(by_base)
    }
}

/// A metric of an arm at one iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The iteration.
    pub iteration: u32,
    /// Mean over the seeds, or bases and seeds, that have a value.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// Mean paired difference from the baseline: arm minus baseline at the same base and seed. Null for the baseline, and where
    /// no run of both has a value.
    pub difference: Option<Estimate>,
    /// Values by seed; absent with bases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<u64, f64>,
    /// Values by base and seed; absent without bases.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values_by_base: BTreeMap<String, BTreeMap<u64, f64>>,
}

/// A mean over seeds, or over bases and seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Arithmetic mean; over bases, of the means of bases.
    pub mean: f64,
    /// 95% interval over seeds, Student's t ([`isr_analysis::interval::mean_interval`]), or over bases and seeds
    /// ([`MeanEffect::of`]); null for one seed, or values of one of several bases, and where a value is not finite.
    pub interval: Option<[f64; 2]>,
    /// Number of seeds; with bases, of runs.
    pub n: usize,
}

/// Values of an arm: metric, iteration, base (0 without bases) and seed.
type Values = BTreeMap<String, BTreeMap<u32, Cells>>;

/// Collects the results of a sweep from its run directories, and decides its claims.
///
/// # Errors
/// [`SweepError::Core`] where a run's summary, or the record of claims, cannot be read.
pub fn results(plan: &Plan, outcome: &Outcome) -> Result<Results, SweepError> {
    let values: Vec<Values> =
        (0..plan.arms.len()).map(|arm| values(plan, arm)).collect::<Result<_, _>>()?;
    let baseline = plan.file.baseline.as_ref();
    let baseline = baseline.and_then(|name| plan.arms.iter().position(|arm| arm.name == *name));
    let bases: Vec<String> = plan.file.bases.iter().map(|base| base.name.clone()).collect();
    let arm = |index: usize| {
        let arm = &plan.arms[index];
        let runs = plan.members.iter().enumerate().filter(|(_, member)| member.arm == index);
        let base = baseline.filter(|&base| base != index).map(|base| &values[base]);
        Ok(ArmResult {
            name: arm.name.clone(),
            set: arm.set.iter().map(|(path, value)| (path.clone(), json(value))).collect(),
            stopped_after: outcome.stopped.get(&index).copied(),
            runs: runs.map(|(at, member)| run(plan, outcome, at, member)).collect::<Result<_, _>>()?,
            metrics: points(&values[index], base, &bases),
        })
    };
    let arms: Vec<ArmResult> = (0..plan.arms.len()).map(arm).collect::<Result<_, SweepError>>()?;
    let stated = read_stated(plan)?;
    let sides: Vec<Sides> = plan.claims.iter().map(|claim| sides(plan, claim, &values, &arms)).collect();
    Ok(Results {
        schema: SCHEMA,
        sweep: plan.name.clone(),
        baseline: plan.file.baseline.clone(),
        seeds: plan.file.seeds.clone(),
        intervals: if bases.len() > 1 { INTERVALS_OF_BASES } else { INTERVALS }.to_owned(),
        claims: decide(&plan.claims, &sides, &stated, bases.len()),
        withdrawn_claims: stated.withdrawn,
        bases,
        arms,
    })
}

/// All metrics of an arm.
pub(crate) fn values(plan: &Plan, arm: usize) -> Result<Values, SweepError> {
    let mut values = Values::new();
    for member in plan.members.iter().filter(|member| member.arm == arm) {
        let Some(summary) = member.summary()? else { continue };
        for Figure { iteration, metric, value } in figures(&summary) {
            let cells = values.entry(metric).or_default().entry(iteration).or_default();
            cells.insert((member.base.unwrap_or(0), member.seed), value);
        }
    }
    Ok(values)
}

/// Values of both sides of a claim, and the runs that have none.
fn sides(plan: &Plan, claim: &Comparison, values: &[Values], arms: &[ArmResult]) -> Sides {
    let mut missing = Vec::new();
    let mut side = |name: &str, iteration: u32| {
        let Some(index) = plan.arms.iter().position(|arm| arm.name == name) else { return Cells::new() };
        let cells = values[index].get(&claim.metric).and_then(|by_iteration| by_iteration.get(&iteration));
        let cells = cells.cloned().unwrap_or_default();
        let members = plan.members.iter().filter(|member| member.arm == index);
        for (member, run) in members.zip(&arms[index].runs) {
            if !cells.contains_key(&(member.base.unwrap_or(0), member.seed)) {
                let why = match run.status {
                    Status::Complete => format!("has no finite {}", claim.metric),
                    status => status.name().to_owned(),
                };
                let text = format!("{}: {why}", plan.run_name(member));
                // A run may lack both values of a claim about its iterations.
                if !missing.contains(&text) {
                    missing.push(text);
                }
            }
        }
        cells
    };
    let arm = side(&claim.arm, claim.iteration);
    let against = side(&claim.against, claim.against_iteration);
    Sides { arm, against, missing }
}

fn points(values: &Values, baseline: Option<&Values>, bases: &[String]) -> BTreeMap<String, Vec<Point>> {
    let point = |metric: &str, iteration: u32, cells: &Cells| {
        let baseline = baseline.and_then(|values| values.get(metric)?.get(&iteration));
        let paired: Cells =
            cells.iter().filter_map(|(at, value)| Some((*at, value - baseline?.get(at)?))).collect();
        let difference = (!paired.is_empty()).then(|| estimate(&paired, bases));
        let mut point = Point {
            iteration,
            estimate: estimate(cells, bases),
            difference,
            values: BTreeMap::new(),
            values_by_base: BTreeMap::new(),
        };
        for (&(base, seed), &value) in cells {
            match bases.get(base) {
                Some(base) => {
                    point.values_by_base.entry(base.clone()).or_default().insert(seed, value);
                }
                None => {
                    point.values.insert(seed, value);
                }
            }
        }
        point
    };
    let series = |(metric, by_iteration): (&String, &BTreeMap<u32, Cells>)| {
        let points = by_iteration.iter().map(|(&iteration, cells)| point(metric, iteration, cells));
        (metric.clone(), points.collect())
    };
    values.iter().map(series).collect()
}

fn estimate(cells: &Cells, bases: &[String]) -> Estimate {
    let values: Vec<f64> = cells.values().copied().collect();
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n.max(1) as f64;
    if bases.len() < 2 {
        return Estimate { mean, interval: mean_interval(&values), n };
    }
    let of_several = cells.keys().any(|(base, _)| cells.keys().any(|(other, _)| other != base));
    match MeanEffect::of(cells).filter(|_| of_several) {
        Some(effect) => Estimate { mean: effect.mean, interval: Some(effect.interval(0.95)), n },
        None => Estimate { mean, interval: None, n },
    }
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
    let base = plan.base(member).map(str::to_owned);
    Ok(RunResult { base, seed: member.seed, dir, status, iterations, error })
}

fn json(value: &toml::Value) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

impl Results {
    /// Names of all metrics that any arm has.
    pub fn metrics(&self) -> BTreeSet<&str> {
        self.arms.iter().flat_map(|arm| arm.metrics.keys().map(String::as_str)).collect()
    }

    /// What means and intervals are over: `seeds`, or `bases and seeds`.
    pub fn over(&self) -> &'static str {
        if self.bases.len() > 1 { "bases and seeds" } else { "seeds" }
    }
}
