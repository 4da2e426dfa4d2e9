//! Contract tests of observers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use isr_api::records::{EvaluationRecord, IterationSummary, JudgeSummary, PairSummary, TrainSummary};
use isr_api::{Event, Fingerprint, Observer, Stage, StepReport};

use crate::call::call_now;
use crate::finding::{Failure, Findings};
use crate::fixtures::hostile_texts;

/// Longest time in which an event is taken: the run waits meanwhile.
const LONGEST: Duration = Duration::from_secs(1);

/// Tests an observer against its contract, with the events of two short runs in temporary directories: one that is
/// complete, and one that is cut and resumed.
///
/// | rule | requirement |
/// |---|---|
/// | `errors` | no event makes it panic or fail, whatever texts and figures it holds |
/// | `prompt` | an event is taken within a second |
pub fn observer(observer: Arc<dyn Observer>) -> Vec<Failure> {
    let mut findings = Findings::default();
    let (whole, cut) = (tempfile::tempdir(), tempfile::tempdir());
    let (Ok(whole), Ok(cut)) = (whole, cut) else {
        findings.note("errors", "the suite has no temporary directory to run in");
        return findings.done();
    };
    let runs = [
        ("a complete run", whole.path(), 0),
        ("a run that is cut", cut.path(), 2),
        ("its rest", cut.path(), 0),
    ];
    for (what, dir, left_out) in runs {
        let (observing, dir) = (Arc::clone(&observer), dir.to_owned());
        let (send, times) = mpsc::channel();
        let told = call_now(move || {
            let events = told(&dir, left_out, &mut |event| {
                let start = Instant::now();
                observing.observe(event);
                let _ = send.send((format!("{event:?}"), start.elapsed()));
            });
            observing.flush().map(|()| events)
        });
        told.value(&mut findings, what);
        for (event, time) in times.try_iter().filter(|(_, time)| *time > LONGEST) {
            let event: String = event.chars().take(80).collect();
            findings.note(
                "prompt",
                format!("{event} took {:.1} s; hand events to a thread", time.as_secs_f64()),
            );
        }
    }
    findings.done()
}

/// Tells the events of a run of one iteration without the last ones, and returns how many.
fn told(dir: &Path, left_out: usize, tell: &mut dyn FnMut(&Event<'_>)) -> usize {
    let report = |loss: f64| StepReport {
        loss,
        grad_norm: 0.5,
        tokens: 12,
        metrics: BTreeMap::from([("reward_margin".to_owned(), 0.25)]),
    };
    let reports = [report(0.7), report(f64::NAN), report(f64::INFINITY)];
    let evaluation = EvaluationRecord {
        samples: 4,
        quarantined: 0,
        policy: Fingerprint::of("policy"),
        greedy: BTreeMap::from([("accuracy".to_owned(), 0.75)]),
        sampled: BTreeMap::from([("accuracy".to_owned(), 0.5)]),
    };
    let summary = IterationSummary {
        iteration: 1,
        samples: 8,
        quarantined: BTreeMap::from([("judge".to_owned(), 8)]),
        policy: Fingerprint::of("policy"),
        response_tokens: 6.5,
        reasoning: None,
        contexts: BTreeMap::new(),
        judge: JudgeSummary::default(),
        pairs: PairSummary::default(),
        training: TrainSummary::default(),
        evaluation: None,
    };
    let texts = hostile_texts();
    let mut events = vec![
        Event::RunStarted { run: "contract", dir, iteration: 1, iterations: 1 },
        Event::BaseEvaluated { evaluation: &evaluation },
        Event::StageShared { iteration: 1, stage: Stage::Respond, seconds: 1.5 },
        Event::StageStarted { iteration: 1, stage: Stage::Judge, done: 0, total: texts.len() * 2 },
    ];
    for (_, text) in &texts {
        events.push(Event::ItemDone { stage: Stage::Judge });
        events.push(Event::Quarantined { stage: Stage::Judge, subject: "clips/7.mp4", reason: text });
    }
    events.push(Event::StageFinished { iteration: 1, stage: Stage::Judge, seconds: 0.0, busy: None });
    for (step, report) in (0..).zip(&reports) {
        events.push(Event::TrainStep { iteration: 1, step, report });
    }
    events.push(Event::IterationFinished { summary: &summary });
    events.push(Event::RunFinished);
    events.truncate(events.len() - left_out);
    events.iter().for_each(tell);
    events.len()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use isr_api::ComponentError;

    use super::*;

    #[derive(Default)]
    struct Fails {
        seen: AtomicUsize,
        panics_at: Option<usize>,
        reports: bool,
    }

    impl Observer for Fails {
        fn observe(&self, _: &Event<'_>) {
            let seen = self.seen.fetch_add(1, Ordering::Relaxed);
            assert!(self.panics_at != Some(seen), "no disk");
        }

        fn flush(&self) -> Result<(), ComponentError> {
            if self.reports { Err(ComponentError::failed("no disk")) } else { Ok(()) }
        }
    }

    #[test]
    fn what_is_wrong_with_an_observer_is_found() {
        assert_eq!(observer(Arc::new(Fails::default())), []);
        for faulty in
            [Fails { panics_at: Some(7), ..Fails::default() }, Fails { reports: true, ..Fails::default() }]
        {
            let found = observer(Arc::new(faulty));
            assert_eq!((found.len(), found[0].rule), (1, "errors"), "{found:?}");
            assert!(found[0].found.contains("no disk"), "{found:?}");
        }
    }
}
