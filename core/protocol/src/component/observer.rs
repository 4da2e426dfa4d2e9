//! An observer in a process. Its events wait in a queue, and a thread hands them over one by one.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use isr_api::messages::{EventMessage, ObserveMessage};
use isr_api::{ComponentError, Event, Observer};
use isr_config::plugin::PluginError;
use serde_json::Value;

use crate::error::{SessionError, SessionErrorKind};
use crate::session::Session;

/// Events that wait before `item_done` events are counted together.
const WAITING: usize = 1024;
/// Longest wait for the events of a run that has ended.
const FLUSH: Duration = Duration::from_secs(10);

/// An [`Observer`] whose component runs in a [`Session`]'s process.
///
/// Events are queued, so that a slow plugin does not stall the run. One that fails is logged once, and gets no more
/// events.
pub struct RemoteObserver {
    name: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<ObserveMessage>,
    /// Number of flushes that were asked for, and of those that are done.
    flushes: (u64, u64),
    /// What the process failed with.
    failed: Option<String>,
    closed: bool,
}

impl Queue {
    /// Appends an event. Where many wait, an item is added to the count of the last one.
    fn push(&mut self, message: ObserveMessage) {
        let many = self.waiting.len() >= WAITING;
        let last = self.waiting.back_mut().map(|last| &mut last.event);
        match (last, &message.event) {
            (
                Some(EventMessage::ItemDone { stage, count }),
                EventMessage::ItemDone { stage: same, count: more },
            ) if *stage == *same && many => *count += more,
            _ => self.waiting.push_back(message),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the process is to do next; `None` at the end.
    fn next(&self) -> Option<Work> {
        let mut queue = self.lock();
        loop {
            if let Some(message) = queue.waiting.pop_front() {
                return Some(Work::Observe(message));
            }
            if queue.flushes.0 > queue.flushes.1 {
                return Some(Work::Flush(queue.flushes.0));
            }
            if queue.closed {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

enum Work {
    Observe(ObserveMessage),
    /// The number of this flush.
    Flush(u64),
}

impl RemoteObserver {
    /// An observer on a session, which must not restart its process: a new one would know nothing of earlier events.
    pub fn new(name: &str, session: Session) -> Self {
        let shared = Arc::new(Shared::default());
        let (of_thread, name_of_thread) = (Arc::clone(&shared), name.to_owned());
        thread::spawn(move || hand_over(&name_of_thread, &session, &of_thread));
        Self { name: name.to_owned(), shared }
    }

    fn error(&self, message: String) -> ComponentError {
        PluginError::new(&self.name, "observe", message).failed()
    }
}

/// Hands over events until the observer is dropped or the process fails.
fn hand_over(name: &str, session: &Session, shared: &Shared) {
    while let Some(work) = shared.next() {
        let outcome = match &work {
            Work::Observe(message) => match serde_json::to_value(message) {
                Ok(params) => session.call_blocking("observe", params),
                Err(error) => Err(SessionErrorKind::Batch(error.to_string()).into()),
            },
            Work::Flush(_) => session.call_blocking("flush", Value::Null),
        };
        let mut queue = shared.lock();
        match (outcome, work) {
            (Ok(_), Work::Flush(number)) => queue.flushes.1 = number,
            (Ok(_), Work::Observe(_)) => {}
            (Err(error), work) => {
                let call = if matches!(work, Work::Flush(_)) { "flush" } else { "observe" };
                let reason = reason(&error);
                tracing::warn!(
                    "plugin `{name}`, {call}: {reason}; this observer gets no more events, the run goes on"
                );
                queue.failed = Some(reason);
                queue.waiting.clear();
            }
        }
        let failed = queue.failed.is_some();
        drop(queue);
        shared.changed.notify_all();
        if failed {
            return;
        }
    }
}

/// Why the process ended, rather than that it is not started again.
fn reason(error: &SessionError) -> String {
    match &error.kind {
        SessionErrorKind::Restarts { last, .. } => last.clone(),
        _ => error.to_string(),
    }
}

impl Observer for RemoteObserver {
    fn observe(&self, event: &Event<'_>) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let message = ObserveMessage { time, event: event.into() };
        let mut queue = self.shared.lock();
        if queue.failed.is_none() {
            queue.push(message);
            drop(queue);
            self.shared.changed.notify_all();
        }
    }

    fn flush(&self) -> Result<(), ComponentError> {
        let until = Instant::now() + FLUSH;
        let mut queue = self.shared.lock();
        queue.flushes.0 += 1;
        let number = queue.flushes.0;
        self.shared.changed.notify_all();
        loop {
            if let Some(reason) = &queue.failed {
                return Err(self.error(reason.clone()));
            }
            if queue.flushes.1 >= number {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let text = format!(
                    "{} events were not handled within {} s",
                    queue.waiting.len() + 1,
                    FLUSH.as_secs()
                );
                tracing::warn!("plugin `{}`, flush: {text}; they are left out", self.name);
                queue.waiting.clear();
                return Err(self.error(text));
            }
            queue = self.shared.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for RemoteObserver {
    /// Does not wait: the thread hands over what is left, and then ends the process.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use isr_api::Stage;

    use super::*;

    fn message(event: &Event<'_>) -> ObserveMessage {
        ObserveMessage { time: 0.0, event: event.into() }
    }

    #[test]
    fn items_are_counted_together_where_many_wait_and_other_events_are_kept() {
        let mut queue = Queue::default();
        let (judge, respond) =
            (Event::ItemDone { stage: Stage::Judge }, Event::ItemDone { stage: Stage::Respond });
        (0..WAITING + 500).for_each(|_| queue.push(message(&judge)));
        assert_eq!(queue.waiting.len(), WAITING);
        let quarantined = Event::Quarantined { stage: Stage::Judge, subject: "a", reason: "b" };
        (0..50).for_each(|_| queue.push(message(&quarantined)));
        (0..50).for_each(|_| queue.push(message(&judge)));
        (0..50).for_each(|_| queue.push(message(&respond)));
        assert_eq!(queue.waiting.len(), WAITING + 50 + 2);
        let counted: u64 = queue
            .waiting
            .iter()
            .map(|it| match it.event {
                EventMessage::ItemDone { count, .. } => count,
                _ => 0,
            })
            .sum();
        assert_eq!(counted as usize, WAITING + 500 + 50 + 50);
        assert_eq!(queue.waiting[WAITING - 1].event, EventMessage::ItemDone { stage: "judge", count: 501 });
    }
}
