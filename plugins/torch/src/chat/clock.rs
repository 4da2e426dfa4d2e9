//! Date of `strftime_now` in chat templates.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Instant in UTC, by the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Days since 1970-01-01.
    days: i64,
    /// Seconds of the day.
    seconds: i64,
}

impl Clock {
    /// Reads a date `YYYY-MM-DD`, at 00:00:00.
    ///
    /// # Errors
    /// A text of another form, or a date that does not exist.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a date, such as 2026-01-31");
        let digits =
            |range| text.get(range).and_then(|part: &str| part.parse::<u32>().ok()).ok_or_else(wrong);
        let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let separated =
            plain && text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
        let clock = Self { days: days_from_civil(i64::from(year), month, day), seconds: 0 };
        match separated && (1..=12).contains(&month) && clock.civil() == (i64::from(year), month, day) {
            true => Ok(clock),
            false => Err(wrong()),
        }
    }

    /// Returns the given date, else the instant of the environment's `SOURCE_DATE_EPOCH`, else today at 00:00:00.
    ///
    /// # Errors
    /// A date or number of seconds that is not one.
    pub(crate) fn fixed_or_now(date: Option<&str>) -> Result<Self, String> {
        if let Some(date) = date {
            return Self::parse(date);
        }
        if let Some(value) = std::env::var_os("SOURCE_DATE_EPOCH") {
            let seconds = value.to_str().and_then(|text| text.parse::<i64>().ok());
            let known = seconds.filter(|seconds| (0..=253_402_300_799).contains(seconds));
            return known
                .map(Self::at)
                .ok_or_else(|| format!("SOURCE_DATE_EPOCH is {value:?}, not seconds"));
        }
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // The day alone, so that what is started twice on a day is the same.
        Ok(Self { days: (elapsed.as_secs() / 86_400) as i64, seconds: 0 })
    }

    fn at(seconds: i64) -> Self {
        Self { days: seconds.div_euclid(86_400), seconds: seconds.rem_euclid(86_400) }
    }

    /// Formats as C's `strftime` does in the C locale, with glibc's `%-d`.
    ///
    /// # Errors
    /// An unknown directive.
    pub(crate) fn strftime(self, format: &str) -> Result<String, String> {
        let (mut text, mut rest) = (String::with_capacity(format.len()), format.chars());
        while let Some(character) = rest.next() {
            match character {
                '%' => self.directive(format, &mut rest, &mut text)?,
                other => text.push(other),
            }
        }
        Ok(text)
    }

    fn directive(
        self,
        format: &str,
        rest: &mut std::str::Chars<'_>,
        text: &mut String,
    ) -> Result<(), String> {
        let (year, month, day) = self.civil();
        let weekday = (self.days + 3).rem_euclid(7);
        let (hour, minute, second) = (self.seconds / 3600, self.seconds / 60 % 60, self.seconds % 60);
        let of_year = self.days - days_from_civil(year, 1, 1) + 1;
        let name = |names: &'static [&'static str], index: i64| {
            names.get(index as usize).copied().unwrap_or_default()
        };
        let (month_name, day_name) = (name(&MONTHS, i64::from(month) - 1), name(&DAYS, weekday));
        let mut directive = rest.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = rest.next();
        }
        let number = |value: i64, width: usize, pad: char| match (unpadded, pad) {
            (true, _) => value.to_string(),
            (false, ' ') => format!("{value:width$}"),
            (false, _) => format!("{value:0width$}"),
        };
        let written = match directive {
            Some('Y') => year.to_string(),
            Some('C') => number(year / 100, 2, '0'),
            Some('y') => number(year % 100, 2, '0'),
            Some('m') => number(i64::from(month), 2, '0'),
            Some('d') => number(i64::from(day), 2, '0'),
            Some('e') => number(i64::from(day), 2, ' '),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => month_name.chars().take(3).collect(),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name.chars().take(3).collect(),
            Some('w') => ((weekday + 1) % 7).to_string(),
            Some('u') => (weekday + 1).to_string(),
            Some('j') => number(of_year, 3, '0'),
            Some('U') => number((of_year + 6 - (weekday + 1) % 7) / 7, 2, '0'),
            Some('W') => number((of_year + 6 - weekday) / 7, 2, '0'),
            Some('H') => number(hour, 2, '0'),
            Some('I') => number((hour + 11) % 12 + 1, 2, '0'),
            Some('M') => number(minute, 2, '0'),
            Some('S') => number(second, 2, '0'),
            Some('f') => "000000".to_owned(),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('z') | Some('Z') => String::new(),
            Some('s') => (self.days * 86_400 + self.seconds).to_string(),
            Some('n') => "\n".to_owned(),
            Some('t') => "\t".to_owned(),
            Some('F') => self.strftime("%Y-%m-%d")?,
            Some('D' | 'x') => self.strftime("%m/%d/%y")?,
            Some('T' | 'X') => self.strftime("%H:%M:%S")?,
            Some('R') => self.strftime("%H:%M")?,
            Some('r') => self.strftime("%I:%M:%S %p")?,
            Some('c') => self.strftime("%a %b %e %H:%M:%S %Y")?,
            Some('%') => "%".to_owned(),
            _ => return Err(format!("strftime_now does not know a directive of `{format}`")),
        };
        text.push_str(&written);
        Ok(())
    }

    /// Returns year, month and day: `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
    fn civil(self) -> (i64, u32, u32) {
        let shifted = self.days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let index = (5 * of_year + 2) / 153;
        let (day, month) =
            (of_year - (153 * index + 2) / 5 + 1, if index < 10 { index + 3 } else { index - 9 });
        (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
    }
}

/// Returns days since 1970-01-01, the inverse of [`Clock::civil`].
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::Clock;

    /// Values of Python 3.12's `datetime.strftime` in the C locale.
    #[test]
    fn dates_are_written_as_python_writes_them() {
        let formats = "%Y-%m-%d %d %b %Y|%A, %B %-d, %y|%a %e %j %U %W %w %u|%H:%M:%S %I %p|%F %D %T %c %%";
        let known = [
            (
                1_709_210_096,
                "2024-02-29 29 Feb 2024|Thursday, February 29, 24|Thu 29 060 08 09 4 4|12:34:56 12 PM|2024-02-29 \
                 02/29/24 12:34:56 Thu Feb 29 12:34:56 2024 %",
            ),
            (
                0,
                "1970-01-01 01 Jan 1970|Thursday, January 1, 70|Thu  1 001 00 00 4 4|00:00:00 12 AM|1970-01-01 01/01/70 \
                 00:00:00 Thu Jan  1 00:00:00 1970 %",
            ),
            (
                1_798_761_599,
                "2026-12-31 31 Dec 2026|Thursday, December 31, 26|Thu 31 365 52 52 4 4|23:59:59 11 PM|2026-12-31 \
                 12/31/26 23:59:59 Thu Dec 31 23:59:59 2026 %",
            ),
        ];
        for (seconds, text) in known {
            assert_eq!(Clock::at(seconds).strftime(formats).unwrap(), text);
        }
        assert!(Clock::at(0).strftime("%Q").is_err());
    }

    #[test]
    fn a_date_is_read_or_refused() {
        assert_eq!(Clock::parse("2024-02-29").unwrap().strftime("%d %b %Y").unwrap(), "29 Feb 2024");
        for wrong in [
            "2023-02-29",
            "2026-13-01",
            "2026-1-01",
            "2026/01/01",
            "today",
            "2026-01-01T00:00",
            "é026-01-1",
        ] {
            assert!(Clock::parse(wrong).is_err(), "{wrong}");
        }
    }
}
