//! Counters in Prometheus' text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use isr_api::Response;

/// Upper bounds of the histogram of durations, in seconds.
const BOUNDS: [f64; 8] = [0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// Counters since the server started.
#[derive(Default)]
pub(crate) struct Metrics {
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// By path and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// Requests of each duration; the last is for those above all bounds.
    durations: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

impl Metrics {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a reply.
    pub(crate) fn answered(&self, path: &'static str, status: u16) {
        *self.counts().requests.entry((path, status)).or_default() += 1;
    }

    /// Records the duration of a completion, from admission to its last byte or disconnect.
    pub(crate) fn took(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let place = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
        let mut counts = self.counts();
        counts.durations[place] += 1;
        counts.seconds += seconds;
    }

    /// Counts the tokens of a completed request.
    pub(crate) fn wrote(&self, prompt_tokens: Option<usize>, responses: &[Response]) {
        let mut counts = self.counts();
        counts.prompt_tokens += prompt_tokens.unwrap_or(0) as u64;
        counts.completion_tokens +=
            responses.iter().map(|response| response.token_ids.len() as u64).sum::<u64>();
    }

    /// Renders all counters. `under_way` is the number of completions in flight.
    pub(crate) fn text(&self, under_way: usize) -> String {
        let counts = self.counts();
        let mut text = String::new();
        let mut add = |line: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{line}");
        };
        add(format_args!(
            "# HELP isr_http_requests_total Requests answered.\n# TYPE isr_http_requests_total counter"
        ));
        for ((path, status), count) in &counts.requests {
            add(format_args!("isr_http_requests_total{{path=\"{path}\",status=\"{status}\"}} {count}"));
        }
        for (name, kind, help, value) in [
            ("isr_requests_under_way", "gauge", "Completions under way.", under_way as u64),
            ("isr_prompt_tokens_total", "counter", "Tokens of prompts.", counts.prompt_tokens),
            ("isr_completion_tokens_total", "counter", "Tokens of answers.", counts.completion_tokens),
        ] {
            add(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"));
        }
        let name = "isr_request_seconds";
        add(format_args!("# HELP {name} Time that completions took.\n# TYPE {name} histogram"));
        let mut below = 0;
        for (bound, count) in BOUNDS.iter().zip(counts.durations) {
            below += count;
            add(format_args!("{name}_bucket{{le=\"{bound}\"}} {below}"));
        }
        let all: u64 = counts.durations.iter().sum();
        add(format_args!("{name}_bucket{{le=\"+Inf\"}} {all}"));
        add(format_args!("{name}_sum {}\n{name}_count {all}", counts.seconds));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let metrics = Metrics::default();
        for milliseconds in [50, 200, 400, 500_000] {
            metrics.took(Duration::from_millis(milliseconds));
        }
        metrics.answered("/health", 200);
        metrics.answered("/health", 200);
        let text = metrics.text(3);
        for line in [
            "isr_http_requests_total{path=\"/health\",status=\"200\"} 2",
            "isr_requests_under_way 3",
            "isr_request_seconds_bucket{le=\"0.1\"} 1",
            "isr_request_seconds_bucket{le=\"0.5\"} 3",
            "isr_request_seconds_bucket{le=\"120\"} 3",
            "isr_request_seconds_bucket{le=\"+Inf\"} 4",
            "isr_request_seconds_sum 500.65",
            "isr_request_seconds_count 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
