//! The calls of a session: waiting, to be retried alone, and open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::{Outcome, Question};
use crate::message::{Call, Told};

/// Hands a question to the caller; false where it cannot take it.
pub(super) type OnQuestion = Box<dyn FnMut(Question) -> bool + Send>;

/// Hands progress to the caller.
pub(crate) type OnProgress = Box<dyn FnMut(Told) + Send>;

/// Hands the outcome to the caller, which may be gone.
pub(super) type OnDone = Box<dyn FnOnce(Outcome) + Send>;

/// How a call reaches the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sending {
    /// Together with others that wait; again, alone, where the process ends.
    #[default]
    Together,
    /// Alone, when nothing else is open, and once.
    Alone,
    /// As [`Alone`](Self::Alone); from then on the process is not what a new one would be.
    Changing,
}

/// A call whose caller waits.
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) method: &'static str,
    pub(super) params: Value,
    pub(super) on_question: OnQuestion,
    pub(super) on_progress: Option<OnProgress>,
    pub(super) on_done: OnDone,
    pub(super) sending: Sending,
    /// Whether a process has ended with it, so that it is sent again without others.
    pub(super) retry_alone: bool,
}

/// A call that a process works on.
struct Open {
    /// `None` after its cancellation.
    call: Option<Waiting>,
    /// Number of the message that it was sent in.
    message: u64,
    /// Whether nothing else is sent meanwhile, also after its cancellation.
    excludes: bool,
    /// Questions that the caller is answering.
    asking: BTreeSet<u64>,
    /// Number of questions so far.
    asked: usize,
}

/// Calls by their state.
#[derive(Default)]
pub(super) struct Calls {
    waiting: VecDeque<Waiting>,
    retries: VecDeque<Waiting>,
    open: BTreeMap<u64, Open>,
    messages: u64,
    has_changed: bool,
}

/// Whether a question may be asked.
pub(super) enum Admission {
    /// It may.
    Admitted,
    /// The call was cancelled.
    Cancelled,
    /// The call has asked too many.
    TooMany,
    /// The call is not open, or the id is in use.
    Invalid,
}

impl Calls {
    pub(super) fn add(&mut self, call: Waiting) {
        self.waiting.push_back(call);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.retries.is_empty()
    }

    /// Whether the process has work and waits for no answer, so that its silence counts.
    pub(super) fn is_working(&self) -> bool {
        !self.open.is_empty() && self.open.values().all(|open| open.asking.is_empty())
    }

    /// The calls of the next message: a retry where nothing is open, else up to `batch` waiting calls, while fewer
    /// than `workers` messages are open.
    pub(super) fn next_message(&mut self, workers: usize, batch: usize) -> Option<Vec<Call>> {
        let open: BTreeSet<_> = self.open.values().map(|open| open.message).collect();
        if !self.retries.is_empty() {
            let retry = if open.is_empty() { self.retries.pop_front() } else { None };
            return retry.map(|call| vec![self.send(call)]);
        }
        let alone = self
            .open
            .values()
            .any(|open| open.excludes || open.call.as_ref().is_some_and(|call| call.retry_alone));
        let next = self.waiting.front()?.sending;
        if alone || open.len() >= workers.max(1) || next != Sending::Together && !open.is_empty() {
            return None;
        }
        self.messages += 1;
        let together = self.waiting.iter().take_while(|call| call.sending == Sending::Together).count();
        let count = together.min(batch.max(1)).max(1);
        let calls: Vec<_> = self.waiting.drain(..count).collect();
        Some(calls.into_iter().map(|call| self.send(call)).collect())
    }

    fn send(&mut self, call: Waiting) -> Call {
        let sent = Call { id: call.id, method: call.method.to_owned(), params: call.params.clone() };
        let excludes = call.sending != Sending::Together;
        self.has_changed |= call.sending == Sending::Changing;
        let (message, asking) = (self.messages, BTreeSet::new());
        let open = Open { message, call: Some(call), excludes, asking, asked: 0 };
        self.open.insert(sent.id, open);
        sent
    }

    /// Ends an open call, and returns it with its unanswered questions. `None` where it is not open; without a
    /// call after its cancellation.
    pub(super) fn end(&mut self, id: u64) -> Option<(Option<Waiting>, BTreeSet<u64>)> {
        self.open.remove(&id).map(|open| (open.call, open.asking))
    }

    /// Cancels a call. Where it is open, returns its unanswered questions.
    pub(super) fn cancel(&mut self, id: u64) -> Option<BTreeSet<u64>> {
        self.waiting.retain(|call| call.id != id);
        self.retries.retain(|call| call.id != id);
        let open = self.open.get_mut(&id)?;
        open.call.take().map(|_| std::mem::take(&mut open.asking))
    }

    /// Counts a question of an open call.
    pub(super) fn admit(&mut self, call: u64, question: u64, most: usize) -> Admission {
        if self.open.values().any(|open| open.asking.contains(&question)) {
            return Admission::Invalid;
        }
        let Some(open) = self.open.get_mut(&call) else { return Admission::Invalid };
        open.asked += 1;
        match &open.call {
            None => Admission::Cancelled,
            Some(_) if open.asked > most => Admission::TooMany,
            Some(_) => Admission::Admitted,
        }
    }

    /// Hands a question to the caller of its call; false where the caller cannot take it.
    pub(super) fn ask(&mut self, question: Question) -> bool {
        let Some(open) = self.open.get_mut(&question.request.call) else { return false };
        let (id, Some(call)) = (question.request.id, &mut open.call) else { return false };
        let taken = (call.on_question)(question);
        if taken {
            open.asking.insert(id);
        }
        taken
    }

    /// Whether a call has changed the process, so that a new one would not be the same.
    pub(super) fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// Hands progress to the caller of a call, if there is one that wants it.
    pub(super) fn progress(&mut self, id: u64, told: Told) {
        let call = self.open.get_mut(&id).and_then(|open| open.call.as_mut());
        if let Some(on_progress) = call.and_then(|call| call.on_progress.as_mut()) {
            on_progress(told);
        }
    }

    /// Notes the answer to a question; false where it is not being asked.
    pub(super) fn answer(&mut self, question: u64) -> bool {
        self.open.values_mut().any(|open| open.asking.remove(&question))
    }

    /// Takes note of the process's end, `silent` where it did not answer in time. Returns the call that caused it,
    /// where that is certain; other open calls are retried, each alone.
    pub(super) fn process_ended(&mut self, silent: bool) -> Option<Waiting> {
        let open = std::mem::take(&mut self.open);
        let alone = open.len() == 1;
        let mut culprit = None;
        for mut call in open.into_values().filter_map(|open| open.call) {
            if alone && (call.retry_alone || silent || call.sending != Sending::Together) {
                culprit = Some(call);
            } else {
                call.retry_alone = true;
                self.retries.push_back(call);
            }
        }
        culprit
    }

    /// All calls, whatever their state.
    pub(super) fn take_all(&mut self) -> Vec<Waiting> {
        let open = std::mem::take(&mut self.open);
        let open = open.into_values().filter_map(|open| open.call);
        open.chain(self.retries.drain(..)).chain(self.waiting.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(ids: impl IntoIterator<Item = u64>) -> Calls {
        let mut calls = Calls::default();
        for id in ids {
            calls.add(waiting(id, Sending::Together));
        }
        calls
    }

    fn waiting(id: u64, sending: Sending) -> Waiting {
        let (on_question, on_done) = (Box::new(|_| true), Box::new(drop));
        let (method, params, on_progress, retry_alone) = ("judge", Value::Null, None, false);
        Waiting { id, method, params, on_question, on_progress, on_done, sending, retry_alone }
    }

    fn next(calls: &mut Calls, workers: usize, batch: usize) -> Vec<u64> {
        let message = calls.next_message(workers, batch);
        message.unwrap_or_default().iter().map(|call| call.id).collect()
    }

    #[test]
    fn what_waits_goes_into_one_message_while_there_are_workers() {
        let mut calls = calls(1..=5);
        assert_eq!(next(&mut calls, 2, 2), [1, 2]);
        assert_eq!(next(&mut calls, 2, 2), [3, 4]);
        assert!(next(&mut calls, 2, 2).is_empty());
        calls.end(1);
        assert!(next(&mut calls, 2, 2).is_empty(), "2 of the first message is still open");
        calls.end(2);
        assert_eq!(next(&mut calls, 2, 2), [5]);
    }

    #[test]
    fn after_the_process_ended_each_open_call_is_sent_alone_and_once() {
        let mut calls = calls(1..=4);
        assert_eq!(next(&mut calls, 1, 3), [1, 2, 3]);
        calls.end(2);
        assert!(calls.process_ended(false).is_none());
        assert_eq!(next(&mut calls, 4, 3), [1]);
        assert!(next(&mut calls, 4, 3).is_empty(), "1 is alone");
        let culprit = calls.process_ended(false).map(|call| call.id);
        assert_eq!(culprit, Some(1));
        assert_eq!(next(&mut calls, 4, 3), [3]);
        calls.end(3);
        assert_eq!(next(&mut calls, 4, 3), [4]);
    }

    #[test]
    fn calls_of_training_are_sent_alone_in_their_turn_and_never_again() {
        let mut calls = calls([1, 2]);
        [(3, Sending::Alone), (4, Sending::Together), (5, Sending::Changing), (6, Sending::Together)]
            .into_iter()
            .for_each(|(id, sending)| calls.add(waiting(id, sending)));
        assert_eq!(next(&mut calls, 4, 9), [1, 2]);
        assert!(next(&mut calls, 4, 9).is_empty(), "3 waits for 1 and 2");
        calls.end(1);
        calls.end(2);
        assert_eq!(next(&mut calls, 4, 9), [3]);
        assert!(next(&mut calls, 4, 9).is_empty(), "3 is alone");
        calls.cancel(3);
        assert!(next(&mut calls, 4, 9).is_empty(), "the process still works on it");
        calls.end(3);
        assert_eq!(next(&mut calls, 4, 9), [4]);
        calls.end(4);
        assert!(!calls.has_changed());
        assert_eq!(next(&mut calls, 4, 9), [5]);
        assert!(calls.has_changed());
        assert_eq!(calls.process_ended(false).map(|call| call.id), Some(5), "not sent again");
        assert_eq!(next(&mut calls, 4, 9), [6]);
    }

    #[test]
    fn a_call_that_was_alone_is_tried_twice_unless_it_hangs() {
        let mut crashing = calls([1]);
        assert_eq!(next(&mut crashing, 1, 1), [1]);
        assert!(crashing.process_ended(false).is_none());
        assert_eq!(next(&mut crashing, 1, 1), [1]);
        assert!(crashing.process_ended(false).is_some());

        let mut hanging = calls([1]);
        assert_eq!(next(&mut hanging, 1, 1), [1]);
        assert!(hanging.process_ended(true).is_some());
    }

    #[test]
    fn cancelled_calls_are_not_sent_and_not_sent_again() {
        let mut calls = calls(1..=3);
        assert!(calls.cancel(2).is_none());
        assert_eq!(next(&mut calls, 1, 9), [1, 3]);
        assert!(calls.cancel(3).is_some());
        assert!(calls.cancel(3).is_none());
        assert!(matches!(calls.end(3), Some((None, _))));
        assert!(calls.end(3).is_none(), "answered twice");
        calls.process_ended(false);
        assert_eq!(next(&mut calls, 1, 9), [1]);
    }
}
