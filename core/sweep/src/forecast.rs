//! What a sweep will share, and how long it takes: told from configs alone, before anything runs.
//!
//! Two runs share a stage where all that leads to it is the same: then its contents will be, as far as the device
//! repeats its results.

use std::collections::{BTreeMap, HashMap, HashSet};

use isr_api::{Fingerprint, FingerprintBuilder, Stage};
use isr_run::stage_cache::sections;
use isr_run::store::read_journal;
use serde::Deserialize;
use serde_json::Value;

use crate::error::SweepError;
use crate::plan::{Member, Plan, setting};

/// The work of a sweep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forecast {
    /// Each iteration's stages, in order; iteration 0 is the starting model's evaluation.
    pub stages: Vec<StageForecast>,
    /// Seconds of all runs one after the other; `None` where no run of the sweep was timed yet.
    pub seconds: Option<Seconds>,
}

/// A stage of an iteration, over all runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageForecast {
    /// The iteration.
    pub iteration: u32,
    /// The stage.
    pub stage: Stage,
    /// Runs that have it.
    pub needed: usize,
    /// Runs that compute it.
    pub computed: usize,
}

/// Estimates from the stages that were timed: of others, the mean of the same stage.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seconds {
    /// Without sharing.
    pub alone: f64,
    /// With sharing, if the sweep shares.
    pub shared: f64,
    /// Of the latter, what is left to do.
    pub left: f64,
}

/// A line of a run's `timings.jsonl`.
#[derive(Deserialize)]
struct Timing {
    iteration: u32,
    stage: String,
    seconds: f64,
}

/// A stage of a run, and the name of what it is made from.
struct Step {
    iteration: u32,
    stage: Stage,
    name: Fingerprint,
    seconds: Option<f64>,
    done: bool,
}

impl Forecast {
    /// The work of a plan.
    ///
    /// # Errors
    /// Where files of earlier runs cannot be read.
    pub fn of(plan: &Plan) -> Result<Self, SweepError> {
        let mut steps = Vec::new();
        for (place, member) in plan.members.iter().enumerate() {
            let own = if plan.file.share { None } else { Some(place) };
            steps.extend(steps_of(member, own)?);
        }
        Ok(Self { stages: stages(&steps), seconds: seconds(&steps) })
    }

    /// How many stages are taken over, of how many.
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

/// What runs that share a stage say of it differs by what taking it over cost.
fn seconds(steps: &[Step]) -> Option<Seconds> {
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
        (!of.is_empty()).then(|| of.values().sum::<f64>() / of.len() as f64)
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

/// All stages of a run. `own` sets it apart from other runs.
fn steps_of(member: &Member, own: Option<usize>) -> Result<Vec<Step>, SweepError> {
    let settings = &member.config.settings;
    let mut timings: HashMap<(u32, String), f64> = HashMap::new();
    for Timing { iteration, stage, seconds } in read_journal(&member.dir.join("timings.jsonl"))? {
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
