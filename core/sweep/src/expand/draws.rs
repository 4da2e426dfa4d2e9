//! Random and quasi-random search.

use isr_api::Streams;
use rand::Rng;
use serde::Deserialize;
use toml::Value;

use super::{Part, list};
use crate::error::SweepError;
use crate::file::Draws;

/// Bases of the Halton sequence, one per dimension. Uniformity degrades in higher dimensions.
const PRIMES: [u32; 10] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29];

/// `{ low = .., high = .. }`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    low: f64,
    high: f64,
    /// Log-uniform.
    #[serde(default)]
    log: bool,
    /// Rounded down to whole numbers; `high` is among them.
    #[serde(default)]
    integer: bool,
}

enum Dimension<'a> {
    Choice(&'a [Value]),
    Range(Range),
}

/// One part per draw.
pub(super) fn draw(draws: &Draws, is_quasi: bool) -> Result<Vec<Part>, SweepError> {
    let kind = if is_quasi { "quasi_random" } else { "random" };
    let dimensions: Vec<_> = draws
        .values
        .iter()
        .map(|(path, value)| Ok((path, dimension(&format!("{kind}.values.{path:?}"), value)?)))
        .collect::<Result<_, SweepError>>()?;
    if dimensions.is_empty() || draws.draws == 0 {
        let text = format!("`{kind}` draws nothing; give `draws` from 1 and `values`");
        return Err(SweepError::Unusable(text));
    }
    if is_quasi && dimensions.len() > PRIMES.len() {
        let text = format!(
            "`{kind}.values` has {} paths; more than {} are for `random`",
            dimensions.len(),
            PRIMES.len()
        );
        return Err(SweepError::Unusable(text));
    }
    let width = draws.draws.to_string().len();
    let part = |index: u32| {
        let values = dimensions.iter().enumerate().map(|(at, (path, dimension))| {
            let mut rng = Streams::new(draws.seed).rng(0, "sweep/draw", path);
            let share = match is_quasi {
                // A rotation by a seeded shift keeps the sequence's evenness (Cranley and Patterson 1976).
                true => (halton(index + 1, PRIMES[at]) + rng.random::<f64>()).fract(),
                false => rng.random_iter::<f64>().nth(index as usize).unwrap_or_default(),
            };
            ((*path).clone(), dimension.at(share))
        });
        (format!("draw-{:0width$}", index + 1), values.collect())
    };
    Ok((0..draws.draws).map(part).collect())
}

/// The radical inverse of `index` in `base`: element `index` of the van der Corput sequence (Halton 1960).
fn halton(mut index: u32, base: u32) -> f64 {
    let (mut value, mut digit) = (0.0, 1.0);
    while index > 0 {
        digit /= f64::from(base);
        value += digit * f64::from(index % base);
        index /= base;
    }
    value
}

fn dimension<'a>(key: &str, value: &'a Value) -> Result<Dimension<'a>, SweepError> {
    let Value::Table(table) = value else { return Ok(Dimension::Choice(list(key, value)?)) };
    let wrong = |reason: String| SweepError::Unusable(format!("`{key}`: {reason}"));
    let range: Range = table.clone().try_into().map_err(|error: toml::de::Error| {
        wrong(format!("{}; give a list, or low and high", error.message()))
    })?;
    if !(range.low.is_finite() && range.high.is_finite() && range.low < range.high) {
        return Err(wrong(format!("low {} must be below high {}", range.low, range.high)));
    }
    if range.log && range.low <= 0.0 {
        return Err(wrong(format!("low is {}; with `log` it must be above 0", range.low)));
    }
    Ok(Dimension::Range(range))
}

impl Dimension<'_> {
    /// Value at quantile `share`, in [0, 1).
    fn at(&self, share: f64) -> Value {
        match self {
            Self::Choice(values) => {
                let index = (share * values.len() as f64) as usize;
                values[index.min(values.len() - 1)].clone()
            }
            Self::Range(range) => range.at(share),
        }
    }
}

impl Range {
    fn at(self, share: f64) -> Value {
        let Self { low, high, log, integer } = self;
        let high = if integer { high + 1.0 } else { high };
        let value = match log {
            true => low * (high / low).powf(share),
            false => low + (high - low) * share,
        };
        match integer {
            true => Value::Integer((value.floor() as i64).min(self.high as i64)),
            false => Value::Float(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first elements in bases 2 and 3, as in Halton (1960).
    #[test]
    fn the_sequence_is_haltons() {
        let first = |base| (1..=6).map(|index| halton(index, base)).collect::<Vec<_>>();
        assert_eq!(first(2), [0.5, 0.25, 0.75, 0.125, 0.625, 0.375]);
        for (got, wanted) in
            first(3).into_iter().zip([1.0, 2.0, 1.0 / 3.0, 4.0 / 3.0, 7.0 / 3.0, 2.0 / 3.0])
        {
            assert!((got - wanted / 3.0).abs() < 1e-12);
        }
    }

    #[test]
    fn quasi_random_draws_cover_every_part_of_a_range() {
        let values = toml::from_str(
            "\"x\" = { low = 0.0, high = 8.0 }\n\"y\" = { low = 1, high = 4, integer = true }",
        );
        let draws = Draws { draws: 32, seed: 5, values: values.unwrap() };
        let drawn = draw(&draws, true).unwrap();
        let mut parts = [0; 8];
        let mut whole = [0; 5];
        for (_, set) in &drawn {
            parts[set[0].1.as_float().unwrap() as usize] += 1;
            whole[set[1].1.as_integer().unwrap() as usize] += 1;
        }
        assert!(parts.iter().all(|&count| (3..=5).contains(&count)), "{parts:?}");
        assert!(whole[0] == 0 && whole[1..].iter().all(|&count| count >= 5), "{whole:?}");
    }

    #[test]
    fn random_draws_are_named_by_their_seed_and_path_alone() {
        let text = "\"a\" = { low = 1e-4, high = 1.0, log = true }\n\"b\" = [\"x\", \"y\"]";
        let draws =
            |text: &str, count| Draws { draws: count, seed: 5, values: toml::from_str(text).unwrap() };
        let drawn = draw(&draws(text, 200), false).unwrap();
        let more = draw(&draws(&format!("{text}\n\"A\" = [1, 2]"), 201), false).unwrap();
        assert_eq!(drawn[3].1[0], more[3].1[1], "a new path, or another draw, changes no draw");
        let below = drawn.iter().filter(|(_, set)| set[0].1.as_float().unwrap() < 0.01).count();
        assert!((70..130).contains(&below), "{below} of 200 in the lower half of the logarithm");
    }
}
