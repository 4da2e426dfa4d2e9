//! Length bias.

use isr_api::{Choice, ChoiceCounts};
use serde::Serialize;

/// Maximum number of Newton steps; about seven are needed from zero.
const STEPS: usize = 200;

/// Length bias of a judge: by tokens as in `summary.json`, and by words as in judge `length_debiased`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Length {
    /// Number of decided verdicts on responses of unequal length in tokens.
    pub unequal: usize,
    /// Share of `unequal` that prefers the response with more tokens
    /// ([`isr_api::records::JudgeSummary::longer_preferred`]); null without any.
    pub longer_preferred: Option<f64>,
    /// Logistic regression of the choice on the difference in words ([`isr_run::words`]); null where the maximum-likelihood fit does not exist (all
    /// lengths equal, or choices separable by length).
    pub slope: Option<Slope>,
}

/// Maximum-likelihood fit of `logit p(first is chosen) = intercept + per_word (words1 - words2)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Slope {
    /// Log-odds per additional word; the `slope` of judge `length_debiased`.
    pub per_word: f64,
    /// Standard error of `per_word`, from the observed information.
    pub error: f64,
    /// Log-odds of the first response at equal lengths.
    pub intercept: f64,
    /// Number of decided verdicts in the fit.
    pub n: usize,
}

impl Length {
    /// Computes the bias from the choice on each pair and what the first response has more.
    pub(crate) fn of(pairs: impl Iterator<Item = (Excess, Choice)> + Clone) -> Self {
        let longer: ChoiceCounts =
            pairs.clone().map(|(excess, choice)| (choice, Choice::of_difference(excess.tokens))).collect();
        let decided = pairs.filter(|(_, choice)| *choice != Choice::Tie);
        let decided: Vec<(f64, bool)> =
            decided.map(|(excess, choice)| (excess.words, choice == Choice::First)).collect();
        Self { unequal: longer.n(), longer_preferred: longer.agreement(), slope: fit(&decided) }
    }
}

/// Length of the first response minus that of the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Excess {
    pub(crate) tokens: f64,
    pub(crate) words: f64,
}

/// Logistic regression with an intercept and one variable, by Newton's method.
fn fit(data: &[(f64, bool)]) -> Option<Slope> {
    if !overlaps(data) {
        return None;
    }
    let mut at = [0.0, 0.0];
    for _ in 0..STEPS {
        let (gradient, [a, b, c]) = derivatives(data, at);
        let determinant = a * c - b * b;
        let mut step = [
            (c * gradient[0] - b * gradient[1]) / determinant,
            (a * gradient[1] - b * gradient[0]) / determinant,
        ];
        if step.iter().all(|step| step.abs() < 1e-10) {
            let error = (a / determinant).sqrt();
            return Some(Slope { per_word: at[1], error, intercept: at[0], n: data.len() });
        }
        // Far from the best fit a whole step may lead away from it.
        let best = log_likelihood(data, at);
        while log_likelihood(data, moved(at, step)) < best - 1e-9 && step != [0.0; 2] {
            step = step.map(|step| step / 2.0);
        }
        at = moved(at, step);
    }
    None
}

fn moved([intercept, per_word]: [f64; 2], step: [f64; 2]) -> [f64; 2] {
    [intercept + step[0], per_word + step[1]]
}

fn log_likelihood(data: &[(f64, bool)], [intercept, per_word]: [f64; 2]) -> f64 {
    let of = |&(x, first): &(f64, bool)| {
        let odds = intercept + per_word * x;
        let against = if first { -odds } else { odds };
        // log(1 + exp(against)) without overflow.
        -(against.max(0.0) + (-against.abs()).exp().ln_1p())
    };
    data.iter().map(of).sum()
}

/// The gradient of the log-likelihood by (intercept, slope), and the information matrix `[[a, b], [b, c]]`.
fn derivatives(data: &[(f64, bool)], [intercept, per_word]: [f64; 2]) -> ([f64; 2], [f64; 3]) {
    let (mut gradient, mut information) = ([0.0; 2], [0.0; 3]);
    for &(x, first) in data {
        let p = 1.0 / (1.0 + (-(intercept + per_word * x)).exp());
        let (residual, weight) = (f64::from(u8::from(first)) - p, p * (1.0 - p));
        gradient[0] += residual;
        gradient[1] += residual * x;
        information[0] += weight;
        information[1] += weight * x;
        information[2] += weight * x * x;
    }
    (gradient, information)
}

/// Whether a best fit exists: neither choice lies all on one side of the other (Albert and Anderson 1984).
fn overlaps(data: &[(f64, bool)]) -> bool {
    let range = |chosen: bool| {
        let of = data.iter().filter(move |(_, first)| *first == chosen).map(|(x, _)| *x);
        (of.clone().fold(f64::INFINITY, f64::min), of.fold(f64::NEG_INFINITY, f64::max))
    };
    let ((low_first, high_first), (low_second, high_second)) = (range(true), range(false));
    low_first < high_second && low_second < high_first
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCESS: [f64; 20] = [
        -7.0, -5.0, -4.0, -3.0, -3.0, -2.0, -1.0, -1.0, 0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 3.0, 4.0, 5.0, 6.0,
        8.0, 12.0,
    ];
    const FIRST: [u8; 20] = [0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1];

    fn pairs() -> impl Iterator<Item = (f64, Choice)> {
        let choice = |first| if first == 1 { Choice::First } else { Choice::Second };
        EXCESS.into_iter().zip(FIRST.map(choice))
    }

    /// The bias by lengths that are the same in words and in tokens.
    fn bias(pairs: impl Iterator<Item = (f64, Choice)>) -> Length {
        let pairs: Vec<_> =
            pairs.map(|(excess, choice)| (Excess { tokens: excess, words: excess }, choice)).collect();
        Length::of(pairs.into_iter())
    }

    /// `statsmodels.api.Logit(y, add_constant(x)).fit(tol=1e-12)` of statsmodels 0.15.0.
    #[test]
    fn the_slope_and_its_error_are_those_of_statsmodels() {
        let slope = bias(pairs()).slope.unwrap();
        assert!((slope.intercept + 0.206_401_829_301_205).abs() < 1e-9, "{slope:?}");
        assert!((slope.per_word - 0.260_583_850_440_342_66).abs() < 1e-9, "{slope:?}");
        assert!((slope.error - 0.143_038_642_476_834_48).abs() < 1e-9, "{slope:?}");
        assert_eq!(slope.n, 20);
    }

    #[test]
    fn mirrored_pairs_have_the_same_slope_and_the_opposite_intercept() {
        let slope = bias(pairs()).slope.unwrap();
        let other = |choice| if choice == Choice::First { Choice::Second } else { Choice::First };
        let mirrored = pairs().map(|(excess, choice)| (-excess, other(choice)));
        let mirrored = bias(mirrored).slope.unwrap();
        assert!((slope.per_word - mirrored.per_word).abs() < 1e-9);
        assert!((slope.intercept + mirrored.intercept).abs() < 1e-9);
    }

    /// The same by `fit(method="bfgs", gtol=1e-12)` on `x / 100`.
    #[test]
    fn lengths_that_all_but_divide_the_choices_are_fitted_too() {
        let pairs = (0..40).map(|i| (f64::from(i) * 25.0 - 500.0, i != 7 && i > 3));
        let pairs =
            pairs.map(|(excess, first)| (excess, Choice::of_difference(if first { 1.0 } else { -1.0 })));
        let slope = bias(pairs).slope.unwrap();
        assert!((slope.per_word - 0.028_646_177_294_548).abs() < 1e-9, "{slope:?}");
        assert!((slope.error - 0.014_842_922_538_25).abs() < 1e-9, "{slope:?}");
    }

    #[test]
    fn equal_lengths_and_undecided_verdicts_are_no_preference_for_length() {
        let pairs = [
            (3.0, Choice::First),
            (-2.0, Choice::First),
            (0.0, Choice::First),
            (5.0, Choice::Tie),
            (4.0, Choice::Second),
            (1.0, Choice::First),
        ];
        let length = bias(pairs.into_iter());
        assert_eq!((length.unequal, length.longer_preferred), (4, Some(0.5)));
    }

    #[test]
    fn where_length_alone_divides_the_choices_no_slope_fits() {
        let longer = |excess: f64| (excess, Choice::of_difference(excess));
        let length = bias([-3.0, -1.0, 2.0, 5.0].into_iter().map(longer));
        assert_eq!((length.longer_preferred, length.slope), (Some(1.0), None));
        let equal = bias([(0.0, Choice::First), (0.0, Choice::Second)].into_iter());
        assert_eq!((equal.longer_preferred, equal.slope), (None, None));
        assert_eq!(bias(std::iter::empty()).slope, None);
    }
}
