//! Forecast of a sweep's stages and time, from configs and earlier timings, before anything runs.
//!
//! Two runs share a stage where all of its inputs are the same. On a device with reproducible results its outputs are then too.

use std::collections::{BTreeMap, HashMap, HashSet};

use isr_api::{Fingerprint, FingerprintBuilder, Stage};
use isr_run::stage_cache::sections;
use isr_run::store::read_readable;
use serde::Deserialize;
use serde_json::Value;

use crate::error::SweepError;
use crate::neighbours;
use crate::plan::{Member, Plan, setting};

/// Stages and estimated time of a sweep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Stages by iteration, in order. Iteration 0 is the starting model's evaluation.
    pub stages: Vec<StageForecast>,
    /// Estimated seconds of all runs in sequence; `None` where neither a run of the sweep nor another run of its model and data
    /// was timed.
    pub seconds: Option<Seconds>,
    /// Whether times of runs outside the sweep were needed for the estimate.
    pub by_other_runs: bool,
}

/// Number of runs that need and compute a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageForecast {
    /// The iteration.
    pub iteration: u32,
    /// The stage.
    pub stage: Stage,
    /// Runs that need the stage.
    pub needed: usize,
    /// Runs that compute it; the others reuse its result.
    pub computed: usize,
}

/// Estimated wall-clock seconds. A stage that was not timed counts as the mean of timed stages of its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seconds {
    /// Without sharing.
    pub alone: f64,
    /// With sharing, if the sweep shares.
    pub shared: f64,
    /// Seconds of `shared` that are left to do.
    pub left: f64,
}

/// A line of a run's `timings.jsonl`.
#[derive(Deserialize)]
pub(crate) struct Timing {
    iteration: u32,
    pub(crate) stage: String,
    pub(crate) seconds: f64,
}

/// A stage of a run, named by the fingerprint of its inputs.
struct Step {
    iteration: u32,
    stage: Stage,
    name: Fingerprint,
    seconds: Option<f64>,
    done: bool,
}

impl Forecast {
    /// Forecasts a plan.
    ///
    /// # Errors
    /// [`SweepError::Core`] where files of earlier runs cannot be read.
    pub fn of(plan: &Plan) -> Result<Self, SweepError> {
        let mut steps = Vec::new();
        for (place, member) in plan.members.iter().enumerate() {
            let own = if plan.file.share { None } else { Some(place) };
            steps.extend(steps_of(member, own)?);
        }
        let own = seconds(&steps, &HashMap::new());
        let by_other_runs = own.is_none();
        let seconds = own.or_else(|| seconds(&steps, &neighbours::means(plan)));
        Ok(Self { stages: stages(&steps), by_other_runs: by_other_runs && seconds.is_some(), seconds })
    }

    /// Number of reused stages, and of all stages.
    pub fn taken_over(&self) -> (usize, usize) {
        let needed: usize = self.stages.iter().map(|stage| stage.needed).sum();
        (needed - self.stages.iter().map(|stage| stage.computed).sum::<usize>(), needed)
    }
}

fn stages(steps: &[Step]) -> Vec<StageForecast> {
    let mut stages: Vec<StageForecast> = Vec::new();
    let mut computed = HashSet::new();
    let mut places: BTreeMap<(u32, usize), (Stage, usize, usize)> = BTreeMap::new();
    for step in steps {
        let place = places.entry((step.iteration, order(step.stage))).or_insert((step.stage, 0, 0));
        place.1 += 1;
        place.2 += usize::from(computed.insert(&step.name));
    }
    for ((iteration, _), (stage, needed, computed)) in places {
        stages.push(StageForecast { iteration, stage, needed, computed });
    }
    stages
}

fn order(stage: Stage) -> usize {
    let all = [Stage::Respond, Stage::Retrospect, Stage::Judge, Stage::Train, Stage::Evaluate];
    all.iter().position(|other| *other == stage).unwrap_or(all.len())
}

/// Totals over all stages. A shared stage counts with its longest timing, since the shorter ones are those of reuse. A kind of
/// stage without a timing has that of `others`.
fn seconds(steps: &[Step], others: &HashMap<Stage, f64>) -> Option<Seconds> {
    let mut timed: HashMap<&Fingerprint, f64> = HashMap::new();
    for (step, seconds) in steps.iter().filter_map(|step| Some((step, step.seconds?))) {
        let longest = timed.entry(&step.name).or_default();
        *longest = longest.max(seconds);
    }
    let mean = |stage: Stage| {
        let of: HashMap<_, _> = steps
            .iter()
            .filter(|step| step.stage == stage)
            .filter_map(|step| Some((&step.name, *timed.get(&step.name)?)))
            .collect();
        let own = (!of.is_empty()).then(|| of.values().sum::<f64>() / of.len() as f64);
        own.or_else(|| others.get(&stage).copied())
    };
    let (mut total, mut seen) = (Seconds::default(), HashSet::new());
    let done: HashSet<_> = steps.iter().filter(|step| step.done).map(|step| &step.name).collect();
    for step in steps {
        let seconds = timed.get(&step.name).copied().or_else(|| mean(step.stage))?;
        total.alone += seconds;
        if seen.insert(&step.name) {
            total.shared += seconds;
            total.left += if done.contains(&step.name) { 0.0 } else { seconds };
        }
    }
    Some(total)
}

/// All stages of a run. `own` makes their names unique to the run, so that nothing is shared.
fn steps_of(member: &Member, own: Option<usize>) -> Result<Vec<Step>, SweepError> {
    let settings = &member.config.settings;
    let mut timings: HashMap<(u32, String), f64> = HashMap::new();
    for Timing { iteration, stage, seconds } in read_readable::<Timing>(&member.dir.join("timings.jsonl")) {
        *timings.entry((iteration, stage)).or_default() += seconds;
    }
    let summary = member.summary()?;
    let complete = summary.as_ref().map_or(0, |summary| summary.iterations.len() as u32);
    let measured_base = summary.is_some_and(|summary| summary.base.is_some());
    let has = |path: &str| setting(settings, path).is_some_and(|section| !section.is_null());
    let name = |stage: Stage, t: u32, more: &[&str], before: &[&Fingerprint]| {
        let mut name = FingerprintBuilder::default();
        name.update(format!("{stage:?} {t} {} {own:?}", member.seed).as_bytes());
        for path in sections(stage).iter().copied().chain(more.iter().copied()) {
            let section = setting(settings, path).unwrap_or(&Value::Null);
            name.update(path.as_bytes()).update(section.to_string().as_bytes());
        }
        before.iter().for_each(|part| {
            name.update(part.as_str().as_bytes());
        });
        name.finish()
    };
    let mut steps: Vec<Step> = Vec::new();
    let mut step = |iteration: u32, stage: Stage, name: &Fingerprint| {
        let seconds = timings.get(&(iteration, stage.name().to_owned())).copied();
        let done = if iteration == 0 { measured_base } else { iteration <= complete };
        steps.push(Step { iteration, stage, name: name.clone(), seconds, done });
    };
    let evaluates = has("evaluator");
    let mut weights = Fingerprint::of("base");
    let mut context = Fingerprint::of("none");
    let evaluate = |weights: &Fingerprint| name(Stage::Evaluate, 0, &["evaluation.samples"], &[weights]);
    if evaluates && member.config.value.evaluation.base {
        step(0, Stage::Evaluate, &evaluate(&weights));
    }
    for t in 1..=member.iterations() {
        let drawn = ["loop.samples"];
        let responses = name(Stage::Respond, t, &drawn, &[&weights]);
        step(t, Stage::Respond, &responses);
        if has("retrospector") {
            context = name(Stage::Retrospect, t, &drawn, &[&weights, &context]);
            step(t, Stage::Retrospect, &context);
        }
        let verdicts = name(Stage::Judge, t, &[], &[&responses, &context]);
        step(t, Stage::Judge, &verdicts);
        weights = name(Stage::Train, t, &["selection"], &[&verdicts]);
        step(t, Stage::Train, &weights);
        if evaluates {
            step(t, Stage::Evaluate, &evaluate(&weights));
        }
    }
    Ok(steps)
}
