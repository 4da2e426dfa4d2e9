//! The calls of a session: those that wait, those that must be alone, those that are open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::Reply;
use crate::message::Call;

/// Tells the caller something; it may have gone.
pub(super) type Tell = Box<dyn Fn(Reply) + Send>;

/// A call that somebody waits for.
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) method: &'static str,
    pub(super) params: Value,
    pub(super) tell: Tell,
    /// Whether a process has ended with it.
    pub(super) suspect: bool,
}

/// A call that a process works on.
struct Open {
    /// `None` where nobody waits for it any more.
    call: Option<Waiting>,
    /// The message that it was sent in.
    message: u64,
    /// Questions that are not answered yet, and how many there were.
    asking: BTreeSet<u64>,
    asked: usize,
}

/// Calls by their state.
#[derive(Default)]
pub(super) struct Calls {
    waiting: VecDeque<Waiting>,
    suspects: VecDeque<Waiting>,
    open: BTreeMap<u64, Open>,
    messages: u64,
}

/// What becomes of a question.
pub(super) enum Asking<'a> {
    /// It is for this caller.
    Of(&'a Tell),
    /// Nobody waits for the call any more.
    Nobody,
    /// The call has asked too much.
    TooMany,
    /// The call is not open, or the question has been asked.
    Wrong,
}

impl Calls {
    pub(super) fn add(&mut self, call: Waiting) {
        self.waiting.push_back(call);
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.suspects.is_empty()
    }

    /// Whether the process has work, and waits for no answer: the time that counts.
    pub(super) fn is_working(&self) -> bool {
        !self.open.is_empty() && self.open.values().all(|open| open.asking.is_empty())
    }

    /// The calls of the next message: a suspect where nothing is open, else what waits, while fewer than
    /// `workers` messages are open.
    pub(super) fn next_message(&mut self, workers: usize, batch: usize) -> Option<Vec<Call>> {
        let open: BTreeSet<_> = self.open.values().map(|open| open.message).collect();
        if !self.suspects.is_empty() {
            let suspect = if open.is_empty() { self.suspects.pop_front() } else { None };
            return suspect.map(|suspect| vec![self.send(suspect)]);
        }
        let alone = self.open.values().any(|open| open.call.as_ref().is_some_and(|call| call.suspect));
        if self.waiting.is_empty() || alone || open.len() >= workers.max(1) {
            return None;
        }
        self.messages += 1;
        let count = self.waiting.len().min(batch.max(1));
        let calls: Vec<_> = self.waiting.drain(..count).collect();
        Some(calls.into_iter().map(|call| self.send(call)).collect())
    }

    fn send(&mut self, call: Waiting) -> Call {
        let sent = Call { id: call.id, method: call.method.to_owned(), params: call.params.clone() };
        let open = Open { message: self.messages, call: Some(call), asking: BTreeSet::new(), asked: 0 };
        self.open.insert(sent.id, open);
        sent
    }

    /// Ends an open call; `None` where it is not open, `Some(None)` where nobody waits.
    pub(super) fn end(&mut self, id: u64) -> Option<Option<Waiting>> {
        self.open.remove(&id).map(|open| open.call)
    }

    /// Forgets who waits for a call. True where it is open.
    pub(super) fn cancel(&mut self, id: u64) -> bool {
        self.waiting.retain(|call| call.id != id);
        self.suspects.retain(|call| call.id != id);
        let open = self.open.get_mut(&id);
        open.is_some_and(|open| open.call.take().is_some())
    }

    /// Notes a question of an open call.
    pub(super) fn ask(&mut self, call: u64, question: u64, limit: usize) -> Asking<'_> {
        if self.open.values().any(|open| open.asking.contains(&question)) {
            return Asking::Wrong;
        }
        let Some(open) = self.open.get_mut(&call) else {
            return Asking::Wrong;
        };
        open.asked += 1;
        match &open.call {
            None => Asking::Nobody,
            Some(_) if open.asked > limit => Asking::TooMany,
            Some(call) => {
                open.asking.insert(question);
                Asking::Of(&call.tell)
            }
        }
    }

    /// Notes the answer to a question. False where it has not been asked.
    pub(super) fn answer(&mut self, question: u64) -> bool {
        self.open.values_mut().any(|open| open.asking.remove(&question))
    }

    /// The process has ended, with fault or silently. The call that must have done it is returned; others
    /// that were open are sent again, each alone.
    pub(super) fn process_ended(&mut self, silent: bool) -> Option<Waiting> {
        let open = std::mem::take(&mut self.open);
        let alone = open.len() == 1;
        let mut guilty = None;
        for mut call in open.into_values().filter_map(|open| open.call) {
            if alone && (call.suspect || silent) {
                guilty = Some(call);
            } else {
                call.suspect = true;
                self.suspects.push_back(call);
            }
        }
        guilty
    }

    /// All calls, whatever their state.
    pub(super) fn take_all(&mut self) -> Vec<Waiting> {
        let open = std::mem::take(&mut self.open);
        let open = open.into_values().filter_map(|open| open.call);
        open.chain(self.suspects.drain(..)).chain(self.waiting.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(ids: impl IntoIterator<Item = u64>) -> Calls {
        let mut calls = Calls::default();
        for id in ids {
            let tell = Box::new(drop);
            calls.add(Waiting { id, method: "judge", params: Value::Null, tell, suspect: false });
        }
        calls
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
        let guilty = calls.process_ended(false).map(|call| call.id);
        assert_eq!(guilty, Some(1));
        assert_eq!(next(&mut calls, 4, 3), [3]);
        calls.end(3);
        assert_eq!(next(&mut calls, 4, 3), [4]);
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
        assert!(!calls.cancel(2));
        assert_eq!(next(&mut calls, 1, 9), [1, 3]);
        assert!(calls.cancel(3));
        assert!(!calls.cancel(3));
        assert!(matches!(calls.end(3), Some(None)));
        assert!(calls.end(3).is_none(), "answered twice");
        calls.process_ended(false);
        assert_eq!(next(&mut calls, 1, 9), [1]);
    }
}
