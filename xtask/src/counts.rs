//! Adding up what the test runners report.

use std::fmt;
use std::ops::AddAssign;

/// Passed and failed tests of one or more suites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that ran and passed.
    pub(crate) passed: u64,
    /// Tests that ran and failed, and suites that died.
    pub(crate) failed: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// A closing line of one test binary or of one crate's doc tests:
/// `test result: ok. 5 passed; 0 failed; 1 ignored; ...`.
pub(crate) fn cargo_line(line: &str) -> Option<Counts> {
    let (_, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = Counts::default();
    for part in numbers.split(';') {
        match count_and_word(part) {
            Some((n, "passed")) => counts.passed = n,
            Some((n, "failed")) => counts.failed = n,
            _ => {}
        }
    }
    Some(counts)
}

/// pytest's closing line, bare (`-q`) or between `=`:
/// `1 failed, 2 passed, 1 warning in 0.12s`.
pub(crate) fn pytest_line(line: &str) -> Option<Counts> {
    let (numbers, time) = line.trim_matches(['=', ' ']).split_once(" in ")?;
    if !time.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut counts = Counts::default();
    for part in numbers.split(',') {
        match count_and_word(part)? {
            (n, "passed") => counts.passed += n,
            (n, "failed" | "error" | "errors") => counts.failed += n,
            _ => {}
        }
    }
    Some(counts)
}

fn count_and_word(part: &str) -> Option<(u64, &str)> {
    let (count, word) = part.trim().split_once(' ')?;
    Some((count.parse().ok()?, word.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(passed: u64, failed: u64) -> Option<Counts> {
        Some(Counts { passed, failed })
    }

    #[test]
    fn cargo_results_are_read() {
        let ok = "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; \
                  finished in 0.00s";
        let bad = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(cargo_line(ok), counts(5, 0));
        assert_eq!(cargo_line(bad), counts(3, 2));
    }

    #[test]
    fn other_cargo_lines_are_ignored() {
        for line in ["running 5 tests", "test a ... ok", "  test result: ok. 5 passed"] {
            assert_eq!(cargo_line(line), None, "{line:?}");
        }
    }

    #[test]
    fn pytest_results_are_read() {
        assert_eq!(pytest_line("3 passed in 0.12s"), counts(3, 0));
        assert_eq!(
            pytest_line("== 1 failed, 2 passed, 1 skipped, 4 warnings in 61.20s (0:01:01) =="),
            counts(2, 1)
        );
        assert_eq!(pytest_line("1 passed, 2 errors in 0.50s"), counts(1, 2));
    }

    #[test]
    fn other_pytest_lines_are_ignored() {
        for line in ["no tests ran in 0.01s", "... [100%]", "3 passed in a row", "FAILED x in y"] {
            assert_eq!(pytest_line(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_total_has_the_agreed_form() {
        let mut total = Counts::default();
        for part in [counts(5, 0), counts(3, 2)].into_iter().flatten() {
            total += part;
        }
        assert_eq!(total.to_string(), "8 passed, 2 failed");
    }
}
