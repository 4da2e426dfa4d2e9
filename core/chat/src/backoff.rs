//! Delays before retries.

use std::time::{Duration, SystemTime};

use rand::Rng;

use crate::error::ChatError;

/// Exponential backoff with jitter.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// Delay after failure number `failure`, counted from 0: `min(first * 2^failure, longest)`, times a draw
    /// from [0.5, 1) that spreads retries of requests that failed together.
    pub(crate) fn wait(&self, failure: usize, rng: &mut impl Rng) -> Duration {
        let doubled = self.first.as_secs_f64() * 2.0_f64.powi(failure.min(60) as i32);
        Duration::from_secs_f64(doubled.min(self.longest.as_secs_f64()) * rng.random_range(0.5..1.0))
    }

    /// Delay that a server asked for.
    ///
    /// # Errors
    /// [`ChatError::LongWait`] if it exceeds `longest`.
    pub(crate) fn obey(&self, asked: Duration) -> Result<Duration, ChatError> {
        if asked <= self.longest {
            return Ok(asked);
        }
        let (asked, limit) = (asked.as_secs_f64(), self.longest.as_secs_f64());
        Err(ChatError::LongWait { asked, limit })
    }
}

/// Parses `Retry-After`: seconds or an HTTP date.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

    use isr_api::Streams;

    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(10) };

    #[test]
    fn waits_double_up_to_the_longest_with_jitter_below() {
        let mut rng = Streams::new(1).rng(0, "test", "");
        for (failure, most) in [1.0, 2.0, 4.0, 8.0, 10.0, 10.0].into_iter().enumerate() {
            let wait = BACKOFF.wait(failure, &mut rng).as_secs_f64();
            assert!(wait >= most / 2.0 && wait < most, "{failure}: {wait}");
        }
        let far = BACKOFF.wait(usize::MAX, &mut rng);
        assert!(far < Duration::from_secs(10));
        let again = |seed| BACKOFF.wait(0, &mut Streams::new(seed).rng(0, "test", ""));
        assert_eq!(again(1), again(1));
        assert_ne!(again(1), again(2));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("0.5", now), Some(Duration::from_millis(500)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:47 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:27 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-3", now), None);
    }

    #[test]
    fn a_server_that_asks_for_too_long_ends_the_run() {
        assert_eq!(BACKOFF.obey(Duration::from_secs(10)), Ok(Duration::from_secs(10)));
        let error = BACKOFF.obey(Duration::from_secs(3600)).unwrap_err().to_string();
        assert!(error.contains("3600 s") && error.contains("max_wait_s (10)"), "{error}");
    }
}
