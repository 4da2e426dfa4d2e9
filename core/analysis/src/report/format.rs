//! Number formatting.

/// Placeholder for a missing value.
pub const MISSING: &str = "–";

/// Unit of a metric, which determines its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A share in [0, 1], shown in percent.
    Rate,
    /// Tokens, with one decimal.
    Tokens,
    /// Any other number.
    Number,
}

impl Unit {
    /// Unit of a metric by its name without the group, such as `accuracy` or `response_tokens`.
    pub fn of_metric(name: &str) -> Self {
        let is =
            |words: &[&str]| words.iter().any(|word| name == *word || name.ends_with(&format!("_{word}")));
        if is(&["accuracy", "hallucination", "precision", "recall", "coverage", "rate", "share"]) {
            Self::Rate
        } else if is(&["tokens"]) {
            Self::Tokens
        } else {
            Self::Number
        }
    }

    /// Formats a value with its unit; [`MISSING`] if it is not finite.
    pub fn format(self, value: f64) -> String {
        match self {
            _ if !value.is_finite() => MISSING.to_owned(),
            Self::Rate => signless(format!("{:.1}%", value * 100.0)),
            Self::Tokens => signless(format!("{value:.1}")),
            Self::Number => number(value),
        }
    }

    /// Formats a value with its unit; [`MISSING`] for `None`.
    pub fn format_option(self, value: Option<f64>) -> String {
        value.map_or_else(|| MISSING.to_owned(), |value| self.format(value))
    }

    /// Formats a signed difference of two values; rates in percentage points.
    pub fn format_change(self, change: f64) -> String {
        let text = match self {
            _ if !change.is_finite() => return MISSING.to_owned(),
            Self::Rate => format!("{:+.1} pts", change * 100.0),
            Self::Tokens => format!("{change:+.1}"),
            Self::Number if change >= 0.0 => format!("+{}", number(change)),
            Self::Number => number(change),
        };
        text.replace('-', "−")
    }

    /// Formats a standard error, without the percent sign.
    pub fn format_spread(self, spread: f64) -> String {
        match self {
            Self::Rate => format!("{:.1}", spread * 100.0),
            Self::Tokens => format!("{spread:.1}"),
            Self::Number => number(spread),
        }
    }

    /// Whether this is [`Unit::Rate`].
    pub fn is_rate(self) -> bool {
        self == Self::Rate
    }
}

/// A number of any size with about three significant digits.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        _ if !value.is_finite() => return MISSING.to_owned(),
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e6).contains(&size) => format!("{value:.1e}"),
        _ if size >= 1000.0 => grouped(&format!("{value:.0}")),
        _ if size >= 100.0 => format!("{value:.1}"),
        _ if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    text.replace('-', "−")
}

/// A count with its thousands separated.
pub(crate) fn count(value: usize) -> String {
    grouped(&value.to_string())
}

/// `42 pairs`, `1 pair`.
pub(crate) fn counted(value: usize, one: &str) -> String {
    format!("{} {one}{}", count(value), if value == 1 { "" } else { "s" })
}

/// Standard error of a share `value` of `n` independent cases.
pub(crate) fn binomial_error(value: f64, n: usize) -> Option<f64> {
    ((0.0..=1.0).contains(&value) && n > 0).then(|| (value * (1.0 - value) / n as f64).sqrt())
}

/// Replaces `_` by spaces: `response tokens`.
pub fn words(name: &str) -> String {
    name.replace('_', " ")
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut text = sign.to_owned();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A proper minus sign, and none before a zero.
fn signless(text: String) -> String {
    let zero = text.starts_with('-') && !text.contains(|digit: char| ('1'..='9').contains(&digit));
    if zero { text.replace('-', "") } else { text.replace('-', "−") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_about_three_digits() {
        let cases = [
            (0.0, "0"),
            (0.693_4, "0.693"),
            (-12.345, "−12.35"),
            (2.0, "2.00"),
            (5e-7, "5.0e−7"),
            (1234567.0, "1.2e6"),
        ];
        for (value, text) in cases.into_iter().chain([(123_456.4, "123,456"), (f64::NAN, MISSING)]) {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn rates_are_percentages_and_their_changes_are_points() {
        assert_eq!(Unit::of_metric("accuracy").format(0.6128), "61.3%");
        assert_eq!(Unit::Rate.format(-0.0001), "0.0%");
        assert_eq!(Unit::Rate.format_change(-0.0512), "−5.1 pts");
        assert_eq!(Unit::Tokens.format_change(12.34), "+12.3");
        assert_eq!(Unit::of_metric("reward_margin"), Unit::Number);
        assert_eq!(Unit::of_metric("response_tokens"), Unit::Tokens);
        assert_eq!(Unit::Rate.format_option(None), MISSING);
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(counted(1, "pair"), "1 pair");
        assert_eq!(counted(17_000, "pair"), "17,000 pairs");
        assert_eq!(count(999), "999");
    }

    #[test]
    fn the_error_of_a_share_is_binomial() {
        assert_eq!(binomial_error(0.5, 100), Some(0.05));
        assert_eq!(binomial_error(1.5, 100), None);
        assert_eq!(binomial_error(0.5, 0), None);
    }
}
