//! The thread that tells the store of this process, and of the others what the store knows.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use super::c10d::Store;
use super::failure::Failure;
use super::reason;
use crate::error::Result;

/// Interval at which failures are asked for.
const POLL: Duration = Duration::from_millis(200);
/// What stands in place of a process's count once it has left.
pub(super) const LEFT: &str = "left";

/// Answer of the store.
pub(super) enum Event {
    /// Counts of all processes, by rank.
    Beats(Vec<String>),
    /// No failure.
    Quiet,
    /// First failure; nothing follows.
    Failed(Failure),
    /// This process has left.
    Left,
    /// Error of the connection; nothing follows.
    StoreLost(String),
}

/// Order to the thread.
pub(super) enum Command {
    /// Tells the others that this process has left.
    Leave,
    /// Tells the others of a failure.
    Publish(Failure),
    /// Ends the thread.
    Stop,
}

/// State of the thread, which alone uses its connection.
pub(super) struct Pulse {
    pub(super) store: Store,
    pub(super) rank: usize,
    pub(super) world_size: usize,
    pub(super) keeps_store: bool,
    /// Interval of beats.
    pub(super) period: Duration,
    pub(super) events: Sender<Event>,
    pub(super) commands: Receiver<Command>,
}

/// Returns the key of a process's count.
pub(super) fn beat_key(rank: usize) -> String {
    format!("alive/{rank}")
}

impl Pulse {
    /// Beats until told to stop, or until there is a failure.
    pub(super) fn run(self) {
        if let Err(error) = self.beat() {
            let _ = self.events.send(Event::StoreLost(reason(&error)));
        }
    }

    fn beat(&self) -> Result<()> {
        let keys: Vec<String> = (0..self.world_size).map(beat_key).collect();
        let mut count = 0u64;
        let mut left = false;
        let mut last = None::<Instant>;
        loop {
            // The process that keeps the store watches the others leave.
            if left || last.is_none_or(|at| at.elapsed() >= self.period) {
                last = Some(Instant::now());
                count += 1;
                if !left {
                    self.store.set(&keys[self.rank], &count.to_string())?;
                }
                self.tell(Event::Beats(self.store.get(&keys)?));
            }
            if let Some(failure) = Failure::published(&self.store)? {
                let dead = usize::from(failure.rank != self.rank);
                failure.spread(&self.store, self.keeps_store, self.world_size - 1 - dead)?;
                self.tell(Event::Failed(failure));
                return Ok(());
            }
            self.tell(Event::Quiet);
            match self.commands.recv_timeout(POLL.min(self.period)) {
                Ok(Command::Leave) => {
                    left = true;
                    self.store.set(&keys[self.rank], LEFT)?;
                    self.tell(Event::Left);
                    if !self.keeps_store {
                        // The store may be gone from now on.
                        return Ok(());
                    }
                }
                Ok(Command::Publish(failure)) => {
                    failure.publish(&self.store)?;
                }
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Nobody listens once the watchdog has concluded.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}
