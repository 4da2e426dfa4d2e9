//! Annotation session: the current pair, the queue of unannotated pairs, and the finished ones.

use std::collections::{HashSet, VecDeque};

use isr_api::records::{Annotation, Choice};
use isr_api::{Fingerprint, SampleId, Streams};
use isr_run::store::Comparison;
use rand::Rng;

use crate::annotate::error::AnnotateError;
use crate::annotate::store::AnnotationStore;
use crate::annotate::{AnnotateOptions, cases};

/// Action on a pair, by the position of the responses on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Pick {
    Left,
    Right,
    Tie,
    Skip,
}

/// Session of one annotator on one iteration.
pub(crate) struct Session {
    store: AnnotationStore,
    iteration: u32,
    annotator: String,
    cases: Vec<Comparison>,
    /// Indices of unannotated pairs, the next one first. Skipped pairs go to the end.
    waiting: VecDeque<usize>,
    skipped: HashSet<usize>,
}

/// A pair in presentation order.
pub(crate) struct Shown<'d> {
    pub(crate) index: usize,
    pub(crate) case: &'d Comparison,
    /// Left and right.
    pub(crate) answers: [&'d str; 2],
}

impl Session {
    pub(crate) fn open(options: &AnnotateOptions) -> Result<Self, AnnotateError> {
        let annotator = options.annotator.trim().to_owned();
        if annotator.is_empty() {
            return Err(AnnotateError::NoName);
        }
        let (iteration, mut cases) = cases::of_run(&options.run, options.iteration)?;
        // A pseudo-random order, the same for all annotators: those who stop early have seen the same unbiased sample.
        cases.sort_by_cached_key(|case| Fingerprint::of(&case.sample));
        let store = AnnotationStore::open(&options.run)?;
        let mut session =
            Self { store, iteration, annotator, cases, waiting: VecDeque::new(), skipped: HashSet::new() };
        let done: HashSet<String> = session.own_lines().map(|(_, line)| line.sample.0.clone()).collect();
        session.waiting = (0..session.cases.len())
            .filter(|&index| !done.contains(&session.cases[index].sample))
            .collect();
        Ok(session)
    }

    /// The next pair; `None` when all are annotated.
    pub(crate) fn current(&self) -> Option<Shown<'_>> {
        let index = *self.waiting.front()?;
        let case = &self.cases[index];
        let [first, second] = [&case.answers[0], &case.answers[1]].map(String::as_str);
        let answers = if self.first_shown_first(case) { [first, second] } else { [second, first] };
        Some(Shown { index, case, answers })
    }

    pub(crate) fn case(&self, index: usize) -> Option<&Comparison> {
        self.cases.get(index)
    }

    pub(crate) fn annotator(&self) -> &str {
        &self.annotator
    }

    pub(crate) fn total(&self) -> usize {
        self.cases.len()
    }

    pub(crate) fn done(&self) -> usize {
        self.cases.len() - self.waiting.len()
    }

    pub(crate) fn skipped(&self) -> usize {
        self.skipped.len()
    }

    pub(crate) fn can_undo(&self) -> bool {
        self.last_own_line().is_some()
    }

    /// Records an action on the current pair. Returns false if `index` is not the current pair, as when the same annotator
    /// answered it in another window. `seconds` is the time from showing the pair to the choice.
    pub(crate) fn pick(&mut self, index: usize, pick: Pick, seconds: f64) -> Result<bool, AnnotateError> {
        if self.waiting.front() != Some(&index) {
            return Ok(false);
        }
        if pick == Pick::Skip {
            self.waiting.rotate_left(1);
            self.skipped.insert(index);
            return Ok(true);
        }
        let case = &self.cases[index];
        let first_shown_first = self.first_shown_first(case);
        let choice = match (pick, first_shown_first) {
            (Pick::Left, true) | (Pick::Right, false) => Choice::First,
            (Pick::Left, false) | (Pick::Right, true) => Choice::Second,
            (Pick::Tie | Pick::Skip, _) => Choice::Tie,
        };
        self.store.append(Annotation {
            iteration: self.iteration,
            sample: SampleId(case.sample.clone()),
            choice,
            first_shown_first,
            annotator: self.annotator.clone(),
            seconds,
        })?;
        self.waiting.pop_front();
        self.skipped.remove(&index);
        Ok(true)
    }

    /// Removes this annotator's last choice and makes its pair the current one. Returns false if there is none.
    pub(crate) fn undo(&mut self) -> Result<bool, AnnotateError> {
        let Some(last) = self.last_own_line() else {
            return Ok(false);
        };
        let sample = self.store.remove(last)?.sample;
        if let Some(index) = self.cases.iter().position(|case| case.sample == sample.0) {
            self.waiting.push_front(index);
        }
        Ok(true)
    }

    fn own_lines(&self) -> impl DoubleEndedIterator<Item = (usize, &Annotation)> {
        let is_own =
            |line: &Annotation| line.annotator == self.annotator && line.iteration == self.iteration;
        self.store.lines().iter().enumerate().filter(move |(_, line)| is_own(line))
    }

    fn last_own_line(&self) -> Option<usize> {
        self.own_lines().next_back().map(|(at, _)| at)
    }

    /// Presentation order, drawn by sample and annotator, so that it is the same after a restart.
    fn first_shown_first(&self, case: &Comparison) -> bool {
        let subject = format!("{}\n{}", self.annotator, case.sample);
        Streams::new(0).rng(self.iteration, "annotate", &subject).random()
    }
}
