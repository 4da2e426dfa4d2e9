//! Successive halving: only the best arms continue after a rung.

use crate::error::SweepError;
use crate::file::Goal;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::results::values;

/// Iterations up to which runs are continued, in order; `None` is the end of the run.
pub(crate) fn targets(plan: &Plan) -> Vec<Option<u32>> {
    let rungs = plan.file.halving.iter().flat_map(|halving| &halving.rungs);
    rungs.map(|&rung| Some(rung)).chain([None]).collect()
}

/// Arms stopped at a rung, with the rung. The decision depends on the runs' metrics alone, so a resumed sweep repeats it.
pub(crate) fn stopped(
    plan: &Plan,
    target: Option<u32>,
    outcome: &Outcome,
) -> Result<Vec<(usize, u32)>, SweepError> {
    let (Some(halving), Some(rung)) = (&plan.file.halving, target) else { return Ok(Vec::new()) };
    let sign = if halving.goal == Goal::Maximise { 1.0 } else { -1.0 };
    let mut means = Vec::new();
    for arm in (0..plan.arms.len()).filter(|arm| !outcome.stopped.contains_key(arm)) {
        let values = values(plan, arm)?;
        let of = values.get(&halving.metric).and_then(|by_iteration| by_iteration.get(&rung));
        // An arm without a value has failed, and is reported as failed.
        if let Some(of) = of {
            means.push((arm, sign * of.values().sum::<f64>() / of.len() as f64));
        }
    }
    if means.is_empty() {
        let text = format!(
            "`halving.metric` is `{}`, of which no run has a value after iteration {rung}; sweep.json lists \
             the metrics",
            halving.metric
        );
        return Err(SweepError::Unusable(text));
    }
    means.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let kept = (means.len() as f64 * halving.keep).ceil() as usize;
    let is_baseline = |arm: usize| plan.file.baseline.as_ref() == Some(&plan.arms[arm].name);
    let rest = means.into_iter().skip(kept.max(1)).filter(|&(arm, _)| !is_baseline(arm));
    Ok(rest.map(|(arm, _)| (arm, rung)).collect())
}
