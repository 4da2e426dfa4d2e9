//! Ranking of more than two responses by pairwise comparisons.

use std::collections::BTreeMap;

use isr_api::records::ComparisonRecord;
use isr_api::{Choice, ComponentError};

/// Ranks responses by their mean probability of winning a comparison. Returns the comparison between the best and
/// the worst one, and all comparisons if there are several. Ties go to the response that was sampled first.
///
/// Judges need not be transitive: if the direct comparison prefers the worst response, its verdict is marked
/// inconsistent.
pub(super) fn best_and_worst(
    mut comparisons: Vec<ComparisonRecord>,
) -> Result<(ComparisonRecord, Vec<ComparisonRecord>), ComponentError> {
    if comparisons.len() == 1 {
        return Ok((comparisons.remove(0), Vec::new()));
    }
    // Every response takes part in equally many comparisons, so sums rank as means do.
    let mut points: BTreeMap<usize, f64> = BTreeMap::new();
    for ComparisonRecord { compared: [one, other], verdict, .. } in &comparisons {
        *points.entry(*one).or_default() += verdict.p_first;
        *points.entry(*other).or_default() += 1.0 - verdict.p_first;
    }
    let ranked = |better: fn(f64, f64) -> bool, but: Option<usize>| {
        let able = points.iter().filter(|(place, _)| Some(**place) != but);
        let first = |best: (usize, f64), (&place, &points): (&usize, &f64)| {
            if better(points, best.1) { (place, points) } else { best }
        };
        able.clone().next().map(|(&place, &points)| able.skip(1).fold((place, points), first).0)
    };
    let best = ranked(|points, most| points > most, None);
    let worst = ranked(|points, least| points < least, best);
    let found = best.zip(worst).and_then(|(best, worst)| {
        let is = |it: &&ComparisonRecord| it.compared == [best, worst] || it.compared == [worst, best];
        Some((best, comparisons.iter().find(is)?.clone()))
    });
    let Some((best, mut between)) = found else {
        return Err(ComponentError::failed("no two responses were compared"));
    };
    let p_best =
        if between.compared[0] == best { between.verdict.p_first } else { 1.0 - between.verdict.p_first };
    between.verdict.consistent &= Choice::of_probability(p_best) != Choice::Second;
    Ok((between, comparisons))
}

#[cfg(test)]
mod tests {
    use isr_api::Verdict;

    use super::*;

    fn comparison(compared: [usize; 2], p_first: f64) -> ComparisonRecord {
        ComparisonRecord {
            compared,
            seed: 7,
            verdict: Verdict { p_first, votes: Vec::new(), consistent: true },
        }
    }

    #[test]
    fn one_comparison_is_the_verdict_and_there_are_no_others() {
        let (verdict, comparisons) = best_and_worst(vec![comparison([0, 1], 0.3)]).unwrap();
        assert_eq!((verdict, comparisons.len()), (comparison([0, 1], 0.3), 0));
    }

    #[test]
    fn the_best_meets_the_worst_in_the_order_of_sampling() {
        // 2 beats all, 1 loses to all.
        let all =
            [([0, 1], 0.9), ([0, 2], 0.2), ([0, 3], 0.5), ([1, 2], 0.1), ([1, 3], 0.3), ([2, 3], 0.8)];
        let all: Vec<_> = all.map(|(compared, p)| comparison(compared, p)).to_vec();
        let (verdict, comparisons) = best_and_worst(all.clone()).unwrap();
        assert_eq!((verdict, comparisons), (comparison([1, 2], 0.1), all));
    }

    #[test]
    fn ties_go_to_what_was_sampled_first() {
        let all = [[0, 1], [0, 2], [1, 2]].map(|compared| comparison(compared, 0.5)).to_vec();
        let (verdict, _) = best_and_worst(all).unwrap();
        assert_eq!((verdict.compared, verdict.verdict.consistent), ([0, 1], true));
    }

    #[test]
    fn a_verdict_against_the_ranking_is_inconsistent() {
        // 0 beats 1 and 2 by far and loses to 3 by little; 3 loses to the others.
        let all =
            [([0, 1], 1.0), ([0, 2], 1.0), ([0, 3], 0.4), ([1, 2], 0.5), ([1, 3], 1.0), ([2, 3], 1.0)];
        let (verdict, _) =
            best_and_worst(all.map(|(compared, p)| comparison(compared, p)).to_vec()).unwrap();
        assert_eq!((verdict.compared, verdict.verdict.consistent), ([0, 3], false));
        assert_eq!(verdict.verdict.p_first, 0.4);
    }
}
