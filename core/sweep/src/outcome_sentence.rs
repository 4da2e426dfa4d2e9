//! What came of a sweep, in a sentence: how arms differ in one metric, and whether that is more than noise.

use std::collections::BTreeSet;

use crate::page::{HEADLINE, title, unit};
use crate::results::{ArmResult, Estimate, Point, Results};

/// What came of a sweep. `known` are the metrics that any arm has.
pub(crate) fn sentence(results: &Results, known: &BTreeSet<&str>) -> String {
    let first = HEADLINE.into_iter().find(|name| known.contains(name));
    let Some(metric) = first.or_else(|| known.iter().next().copied()) else {
        return "No run has measured anything yet.".to_owned();
    };
    let last = |arm: &'_ ArmResult| arm.metrics.get(metric)?.last().cloned();
    let arms: Vec<(&str, Point)> =
        results.arms.iter().filter_map(|arm| Some((arm.name.as_str(), last(arm)?))).collect();
    match &results.baseline {
        Some(baseline) if arms.iter().any(|(name, _)| name == baseline) => {
            against(baseline, metric, &arms, results.over())
        }
        _ => best(metric, &arms),
    }
}

/// The arms against the baseline, seed by seed.
fn against(baseline: &str, metric: &str, arms: &[(&str, Point)], over: &str) -> String {
    let differences: Vec<(&str, &Estimate)> = arms
        .iter()
        .filter(|(name, _)| *name != baseline)
        .filter_map(|(name, point)| Some((*name, point.difference.as_ref()?)))
        .collect();
    let name = title(metric);
    if differences.is_empty() {
        return format!("No other arm has a seed in common with {baseline} yet.");
    }
    if differences.iter().all(|(_, difference)| difference.interval.is_none()) {
        return format!(
            "Of one {} there is no interval: whether arms differ from {baseline} in \u{201c}{name}\u{201d} by more than \
             noise is unknown.",
            if over == "seeds" { "seed" } else { "base" }
        );
    }
    let (clear, noise): (Vec<_>, Vec<_>) =
        differences.iter().partition(|(_, difference)| differs(difference));
    let change = |(arm, difference): &&(&str, &Estimate)| {
        let ends = difference.interval.map_or_else(String::new, |[low, high]| {
            format!(
                ", 95% interval {} to {}",
                unit(metric).format_change(low),
                unit(metric).format_change(high)
            )
        });
        format!("{arm} ({}{ends})", unit(metric).format_change(difference.mean))
    };
    let clear: Vec<String> = clear.iter().map(change).collect();
    let noise: Vec<&str> = noise.iter().map(|(arm, _)| *arm).collect();
    let mut text = match clear.as_slice() {
        [] => format!(
            "In \u{201c}{name}\u{201d} no arm differs from {baseline} by more than the noise of its {over}"
        ),
        clear => format!(
            "In \u{201c}{name}\u{201d} these differ from {baseline} by more than the noise of their {over}: {}",
            clear.join("; ")
        ),
    };
    if !clear.is_empty() && !noise.is_empty() {
        text.push_str(&format!(". Within noise: {}", noise.join(", ")));
    }
    text.push('.');
    if differences.len() > 1 {
        text.push_str(&format!(
            " Of {} such intervals one in 20 leaves out 0 by chance alone.",
            differences.len()
        ));
    }
    text
}

fn differs(difference: &Estimate) -> bool {
    difference.interval.is_some_and(|[low, high]| low > 0.0 || high < 0.0)
}

/// Without a baseline: what was measured, and that it is no comparison.
fn best(metric: &str, arms: &[(&str, Point)]) -> String {
    let by_mean = |one: &&(&str, Point), other: &&(&str, Point)| {
        one.1.estimate.mean.total_cmp(&other.1.estimate.mean)
    };
    let (Some(low), Some(high)) = (arms.iter().min_by(by_mean), arms.iter().max_by(by_mean)) else {
        return "No run has measured anything yet.".to_owned();
    };
    let written = |(name, point): &(&str, Point)| {
        let Estimate { mean, interval, .. } = &point.estimate;
        let ends = interval.map_or_else(String::new, |[low, high]| {
            format!(", 95% interval {} to {}", unit(metric).format(low), unit(metric).format(high))
        });
        format!("{} ({name}{ends})", unit(metric).format(*mean))
    };
    let name = title(metric);
    if arms.len() == 1 {
        return format!("\u{201c}{name}\u{201d} is {}.", written(high));
    }
    format!(
        "\u{201c}{name}\u{201d} lies between {} and {}. Whether arms differ by more than noise, paired differences tell: name \
         a `baseline` and two seeds or more.",
        written(low),
        written(high)
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use std::collections::BTreeMap;

    use super::*;

    fn estimate(mean: f64, interval: Option<[f64; 2]>) -> Estimate {
        Estimate { mean, interval, n: if interval.is_some() { 3 } else { 1 } }
    }

    fn sweep(arms: &[(&str, Option<Estimate>)], baseline: Option<&str>) -> String {
        let arm = |(name, difference): &(&str, Option<Estimate>)| {
            let point = Point {
                iteration: 2,
                estimate: estimate(0.5, None),
                difference: difference.clone(),
                values: BTreeMap::new(),
                values_by_base: BTreeMap::new(),
            };
            ArmResult {
                name: (*name).to_owned(),
                set: BTreeMap::new(),
                stopped_after: None,
                runs: Vec::new(),
                metrics: BTreeMap::from([("greedy.accuracy".to_owned(), vec![point])]),
            }
        };
        let results = Results {
            schema: 1,
            sweep: "s".to_owned(),
            baseline: baseline.map(str::to_owned),
            seeds: vec![1],
            bases: Vec::new(),
            intervals: String::new(),
            claims: Vec::new(),
            withdrawn_claims: Vec::new(),
            arms: arms.iter().map(arm).collect(),
        };
        sentence(&results, &results.metrics())
    }

    #[test]
    fn what_is_more_than_noise_is_named_and_what_is_not_too() {
        let clear = Some(estimate(0.05, Some([0.01, 0.09])));
        let noise = Some(estimate(0.01, Some([-0.03, 0.05])));
        let said = sweep(&[("base", None), ("a", clear), ("b", noise.clone())], Some("base"));
        assert!(
            said.contains("a (+5.0 pts, 95% interval +1.0 pts to +9.0 pts). Within noise: b."),
            "{said}"
        );
        let said = sweep(&[("base", None), ("b", noise)], Some("base"));
        assert!(said.contains("no arm differs from base by more than the noise"), "{said}");
        let said = sweep(&[("base", None), ("b", Some(estimate(0.2, None)))], Some("base"));
        assert!(said.starts_with("Of one seed there is no interval"), "{said}");
        let said = sweep(&[("a", None), ("b", None)], None);
        assert!(said.contains("name a `baseline`"), "{said}");
        assert_eq!(sweep(&[], None), "No run has measured anything yet.");
    }
}
