//! Questions of a process: those in flight, and those that wait for one of them to end.
//!
//! A question is in flight until its answer has been written to the process. So a process that does not read keeps
//! at most [`QuestionLimits::in_flight`] answers in memory, however much it asks.

use std::collections::{BTreeMap, VecDeque};

use isr_api::messages::QuestionLimits;

use crate::message::HostRequest;

/// The open questions of a process.
pub(super) struct Questions {
    limits: QuestionLimits,
    /// Bytes of each, by id.
    in_flight: BTreeMap<u64, usize>,
    waiting: VecDeque<(HostRequest, usize)>,
}

impl Questions {
    pub(super) fn new(limits: QuestionLimits) -> Self {
        Self { limits, in_flight: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// Adds a question that took so many bytes.
    ///
    /// # Errors
    /// Names the limit that it exceeds.
    pub(super) fn add(&mut self, request: HostRequest, bytes: usize) -> Result<(), String> {
        let QuestionLimits { open, open_bytes, .. } = self.limits;
        if self.in_flight.len() + self.waiting.len() >= open {
            return Err(format!("{open} questions are open at the same time, as many as may be"));
        }
        let sizes = self.in_flight.values().chain(self.waiting.iter().map(|(_, bytes)| bytes));
        if sizes.sum::<usize>() + bytes > open_bytes {
            return Err(format!("the questions that are open have more than {open_bytes} bytes"));
        }
        self.waiting.push_back((request, bytes));
        Ok(())
    }

    /// The next question to be answered, while fewer than the limit are in flight.
    pub(super) fn next(&mut self) -> Option<HostRequest> {
        if self.in_flight.len() >= self.limits.in_flight {
            return None;
        }
        let (request, bytes) = self.waiting.pop_front()?;
        self.in_flight.insert(request.id, bytes);
        Some(request)
    }

    pub(super) fn is_waiting(&self, id: u64) -> bool {
        self.waiting.iter().any(|(request, _)| request.id == id)
    }

    /// Ends a question whose answer was written.
    pub(super) fn end(&mut self, id: u64) {
        self.in_flight.remove(&id);
    }

    /// Takes back the waiting questions of a call, and returns their ids.
    pub(super) fn withdraw(&mut self, call: u64) -> Vec<u64> {
        let (of_call, others) = self.waiting.drain(..).partition(|(request, _)| request.call == call);
        self.waiting = others;
        let of_call: VecDeque<(HostRequest, usize)> = of_call;
        of_call.into_iter().map(|(request, _)| request.id).collect()
    }

    /// Forgets all questions, for a new process.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limits);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn questions(change: impl FnOnce(&mut QuestionLimits)) -> Questions {
        let mut limits = QuestionLimits::DEFAULT;
        change(&mut limits);
        Questions::new(limits)
    }

    fn question(id: u64, call: u64) -> HostRequest {
        HostRequest { id, call, method: "frame".to_owned(), params: Value::Null }
    }

    fn next(questions: &mut Questions) -> Option<u64> {
        questions.next().map(|request| request.id)
    }

    #[test]
    fn a_question_waits_until_an_answer_has_been_written() {
        let mut questions = questions(|limits| limits.in_flight = 2);
        (1..=4).for_each(|id| questions.add(question(id, id % 2), 1).unwrap());
        assert_eq!(
            [next(&mut questions), next(&mut questions), next(&mut questions)],
            [Some(1), Some(2), None]
        );
        questions.end(2);
        assert_eq!([next(&mut questions), next(&mut questions)], [Some(3), None]);
        assert_eq!(questions.withdraw(0), [4]);
        questions.end(1);
        assert_eq!(next(&mut questions), None);
    }

    #[test]
    fn what_exceeds_a_limit_is_refused_with_the_limit() {
        let mut few = questions(|limits| limits.open = 2);
        few.add(question(1, 1), 1).unwrap();
        few.next();
        few.add(question(2, 1), 1).unwrap();
        let refused = few.add(question(3, 1), 1).unwrap_err();
        assert_eq!(refused, "2 questions are open at the same time, as many as may be");
        let mut small = questions(|limits| limits.open_bytes = 100);
        small.add(question(1, 1), 60).unwrap();
        assert!(small.add(question(2, 1), 41).unwrap_err().contains("more than 100 bytes"));
        small.add(question(2, 1), 40).unwrap();
        small.clear();
        small.add(question(3, 1), 100).unwrap();
    }
}
